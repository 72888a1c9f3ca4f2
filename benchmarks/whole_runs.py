"""Whole runs, from the start of a process to the final test: LeNet-5 on MNIST, ours and report C's script."""

import gzip
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import oracles
from benchmarks.subprocess_side import SubprocessSide
from jaxnets.data.sources.mnist import FILES, find_files
from jaxnets.errors import CheckFailedError

REPOSITORY = Path(__file__).parents[1]
CONFIG, SCRIPT = "configs/lenet_mnist.py:adam", "lenet5_script"
TRAINING_IMAGES, TEST_IMAGES = 60_000, 10_000
MIN_ACCURACY = 0.98
"""Of either side, or it did not do the work."""


class OurRun(SubprocessSide):
    """scripts/train.py in a run directory of its own; every program is compiled again."""

    def __init__(self, shared: None, *, epochs: int, data_root: Path, kernels: Path | None):
        del shared
        self._epochs, self._root = epochs, data_root
        self._lowering = f"--kernels_folder={kernels.parent}" if kernels else "--nokernels"

    def share(self) -> dict[str, Any]:
        """How long to train, and on what."""
        files = {FILES[key].name: file for key, file in find_files(self._root).items()}
        return {"epochs": self._epochs, "files": files}

    def answer(self) -> np.ndarray:
        """What a run goes through: epochs, and images of training and test."""
        return _work(self._epochs)

    def measure(self, seconds: float) -> float:
        """Training images per second of the whole run, which lasts as long as it lasts."""
        del seconds
        with tempfile.TemporaryDirectory(prefix="jaxnets-bench-") as scratch:
            flags = [
                f"--config={CONFIG}",
                f"--config.train.epochs={self._epochs}",
                f"--config.data.root={self._root}",
                f"--workdir={scratch}/run",
                "--compilation_cache=none",
                self._lowering,
            ]
            command = [sys.executable, "scripts/train.py", *flags]
            seconds = self.run(command, "scripts/train.py", cwd=REPOSITORY).seconds
            result = json.loads(Path(scratch, "run", "result.json").read_text())
        _require(result["test_accuracy"], "our run", self._epochs)
        return self._epochs * TRAINING_IMAGES / seconds


class TheirRun(SubprocessSide):
    """Report C's script in a process of its own, on the same files, uncompressed."""

    def __init__(self, shared: dict[str, Any], *, threads: int):
        self._epochs, self._threads = shared["epochs"], threads
        self._folder = tempfile.TemporaryDirectory(prefix="jaxnets-bench-")
        raw = Path(self._folder.name) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for name, file in shared["files"].items():
            opened = gzip.open if file.suffix == ".gz" else open
            with opened(file, "rb") as packed, (raw / name.removesuffix(".gz")).open("wb") as out:
                shutil.copyfileobj(packed, out)

    def answer(self) -> np.ndarray:
        """As OurRun's."""
        return _work(self._epochs)

    def measure(self, seconds: float) -> float:
        """Training images per second of the whole run."""
        del seconds
        script = oracles.FOLDER / f"{SCRIPT}.py"
        words = [self._folder.name, str(self._epochs), str(self._threads)]
        command = [sys.executable, str(script), *words]
        done = self.run(command, script.name, cwd=REPOSITORY)
        _require(float(done.lines[-1].split()[-1]), "PyTorch's run", self._epochs)
        return self._epochs * TRAINING_IMAGES / done.seconds


def _work(epochs: int) -> np.ndarray:
    return np.array([epochs, TRAINING_IMAGES, TEST_IMAGES], np.float32)


def _require(accuracy: float, who: str, epochs: int) -> None:
    if epochs >= 10 and accuracy < MIN_ACCURACY:
        raise CheckFailedError(f"{who} ends at a test accuracy of {accuracy:.4f}: not comparable")
