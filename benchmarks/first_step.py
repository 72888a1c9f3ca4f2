"""A process that takes one training step and ends: what a start costs, imports and compilation included.

    python -m benchmarks.first_step SIDE FILE [CACHE KERNELS]

SIDE is "ours" or "theirs", FILE what our side shares, pickled; ours are CACHE, a folder of compiled programs
or "none", and KERNELS, a library of the C++ kernels or nothing.
"""

import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.subprocess_side import SubprocessSide, module_environment

OURS, NONE = "ours", "none"


class Start(SubprocessSide):
    """Starts processes of one side, which keep compiled programs where there is to be a `cache`."""

    def __init__(self, side: str, shared: dict[str, Any], *, cache: bool = False, kernels: str = ""):
        self._folder = tempfile.TemporaryDirectory(prefix="jaxnets-bench-")
        self._shared = Path(self._folder.name) / "shared"
        self._shared.write_bytes(pickle.dumps(shared))
        self._command = [sys.executable, "-m", __name__, side, str(self._shared)]
        if side == OURS:
            folder = str(self._shared.with_name("compiled")) if cache else NONE
            self._command += [folder, kernels]
        self._parameters = sum(array.size for array in shared["arrays"].values())

    def answer(self) -> np.ndarray:
        """The number of parameters and statistics, which both sides have to make."""
        return np.array([self._parameters], np.float64)

    def measure(self, seconds: float) -> float:
        """Starts per second, of one start."""
        del seconds
        return 1 / self.run(self._command, "a start", env=module_environment()).seconds


class OurStart(Start):
    """Ours, with an empty cache of compiled programs every time, or with one that the last start filled."""

    def __init__(self, shared: None, *, warm: bool, kernels: Path | None, **shape: Any):
        from benchmarks.jax_workloads import NetworkSide

        self._handed_on = NetworkSide(shared, **shape).share()
        super().__init__(OURS, self._handed_on, cache=warm, kernels=str(kernels or ""))

    def share(self) -> dict[str, Any]:
        """As NetworkSide's."""
        return self._handed_on


class TheirStart(Start):
    """PyTorch's, which compiles nothing."""

    def __init__(self, shared: dict[str, Any], *, threads: int):
        super().__init__("theirs", {**shared, "threads": threads})


def _take_our_step(shared: dict[str, Any], cache: str, kernels: str) -> None:
    from jaxnets.ops.cpu_kernels import enable
    from jaxnets.runtime import xla

    xla.enable_compilation_cache(cache)
    if kernels:
        enable(Path(kernels))
    from benchmarks.jax_workloads import TrainingSide

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
    from benchmarks.torch_workloads import TrainingSide

    side = TrainingSide(shared, channels_last=True, threads=shared["threads"])
    side.take_step()
    side.wait()


if __name__ == "__main__":
    handed_on = pickle.loads(Path(sys.argv[2]).read_bytes())
    if sys.argv[1] == OURS:
        _take_our_step(handed_on, *sys.argv[3:])
    else:
        _take_their_step(handed_on)
