"""A process that takes one training step and ends: what a start costs, imports and compilation included.

    python -m jaxnets.bench.first_step SIDE FILE [CACHE]

SIDE is "ours" or "theirs", FILE what our side shares, pickled, CACHE a folder of compiled programs.
"""

import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.errors import CheckFailedError


class Start:
    """Starts processes of one side; `cache` is where compiled programs are kept, None for nowhere."""

    def __init__(self, side: str, shared: dict[str, Any], *, cache: bool):
        self._folder = tempfile.TemporaryDirectory(prefix="jaxnets-bench-")
        self._shared = Path(self._folder.name) / "shared"
        self._shared.write_bytes(pickle.dumps(shared))
        self._command = [sys.executable, "-m", __name__, side, str(self._shared)]
        self._command += [str(self._shared.with_name("compiled"))] if cache else []
        self._parameters = sum(array.size for array in shared["arrays"].values())

    def answer(self) -> np.ndarray:
        """The number of parameters and statistics, which both sides have to make."""
        return np.array([self._parameters], np.float64)

    def measure(self, seconds: float) -> float:
        """Starts per second, of one start."""
        del seconds
        begin = time.perf_counter()
        done = subprocess.run(self._command, capture_output=True, text=True)
        elapsed = time.perf_counter() - begin
        if done.returncode:
            raise CheckFailedError(f"a start failed: {done.stderr.strip().splitlines()[-1:]}")
        return 1 / elapsed


class OurStart(Start):
    """Ours, with an empty cache of compiled programs every time, or with one that the last start filled."""

    def __init__(self, shared: None, *, network: str, image_size: int, batch_size: int, warm: bool):
        from jaxnets.bench.our_sides import NetworkSide

        side = NetworkSide(shared, network=network, image_size=image_size, batch_size=batch_size)
        self._handed_on = side.share()
        super().__init__("ours", self._handed_on, cache=warm)

    def share(self) -> dict[str, Any]:
        """As NetworkSide's."""
        return self._handed_on


class TheirStart(Start):
    """PyTorch's, which compiles nothing."""

    def __init__(self, shared: dict[str, Any], *, threads: int):
        super().__init__("theirs", {**shared, "threads": threads}, cache=False)


def _take_our_step(shared: dict[str, Any], cache: str) -> None:
    from jaxnets.app import allocator, compilation_cache

    allocator.keep_freed_memory()
    compilation_cache.enable(cache)
    from jaxnets.bench.our_sides import TrainingSide

    config = shared["config"]
    side = TrainingSide(
        None,
        network=config.model.name,
        image_size=config.data.image_size,
        batch_size=config.train.batch_size,
    )
    side.take_step()
    side.wait()


def _take_their_step(shared: dict[str, Any]) -> None:
    from jaxnets.bench.their_sides import TrainingSide

    side = TrainingSide(shared, channels_last=True, threads=shared["threads"])
    side.take_step()
    side.wait()


if __name__ == "__main__":
    handed_on = pickle.loads(Path(sys.argv[2]).read_bytes())
    if sys.argv[1] == "ours":
        _take_our_step(handed_on, sys.argv[3] if len(sys.argv) > 3 else "none")
    else:
        _take_their_step(handed_on)
