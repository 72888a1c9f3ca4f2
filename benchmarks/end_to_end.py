"""LeNet-5 on MNIST from process start to final test: scripts/train.py and report C's script."""

import gzip
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import oracles
from benchmarks.subprocess_workload import SubprocessWorkload
from jaxnets.data.sources.mnist import FILES, find_files
from jaxnets.errors import CheckFailedError

REPOSITORY = Path(__file__).parents[1]
CONFIG, SCRIPT = "configs/lenet_mnist.py:adam", "lenet5_script"
TRAINING_IMAGES, TEST_IMAGES = 60_000, 10_000
MIN_ACCURACY = 0.98
"""Test accuracy below which a run is not comparable."""


class JaxnetsRun(SubprocessWorkload):
    """Runs scripts/train.py in a new run directory, without a compilation cache."""

    def __init__(self, shared: None, *, epochs: int, data_root: Path, kernels: Path | None):
        del shared
        self._epochs, self._root = epochs, data_root
        self._kernels_flag = f"--kernels_folder={kernels.parent}" if kernels else "--nokernels"

    def shared_data(self) -> dict[str, Any]:
        """Returns the number of epochs and the MNIST files."""
        files = {FILES[key].name: file for key, file in find_files(self._root).items()}
        return {"epochs": self._epochs, "files": files}

    def outputs(self) -> np.ndarray:
        """Returns the amount of work: epochs, training and test images."""
        return _amount_of_work(self._epochs)

    def measure(self, seconds: float) -> float:
        """Returns training images per second over a run, however long it takes."""
        del seconds
        with tempfile.TemporaryDirectory(prefix="jaxnets-bench-") as scratch:
            flags = [
                f"--config={CONFIG}",
                f"--config.train.epochs={self._epochs}",
                f"--config.data.root={self._root}",
                f"--workdir={scratch}/run",
                "--compilation_cache=none",
                self._kernels_flag,
            ]
            command = [sys.executable, "scripts/train.py", *flags]
            seconds = self.run(command, "scripts/train.py", cwd=REPOSITORY).seconds
            result = json.loads(Path(scratch, "run", "result.json").read_text())
        _check_accuracy(result["test_accuracy"], "our run", self._epochs)
        return self._epochs * TRAINING_IMAGES / seconds


class TorchRun(SubprocessWorkload):
    """Runs report C's PyTorch script on the same files, uncompressed."""

    def __init__(self, shared: dict[str, Any], *, threads: int):
        self._epochs, self._threads = shared["epochs"], threads
        self._folder = tempfile.TemporaryDirectory(prefix="jaxnets-bench-")
        raw = Path(self._folder.name) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for name, file in shared["files"].items():
            open_file = gzip.open if file.suffix == ".gz" else open
            with open_file(file, "rb") as source, (raw / name.removesuffix(".gz")).open("wb") as out:
                shutil.copyfileobj(source, out)

    def outputs(self) -> np.ndarray:
        """Returns the amount of work: epochs, training and test images."""
        return _amount_of_work(self._epochs)

    def measure(self, seconds: float) -> float:
        """Returns training images per second over a run, however long it takes."""
        del seconds
        script = oracles.FOLDER / f"{SCRIPT}.py"
        arguments = [self._folder.name, str(self._epochs), str(self._threads)]
        command = [sys.executable, str(script), *arguments]
        finished = self.run(command, script.name, cwd=REPOSITORY)
        _check_accuracy(float(finished.lines[-1].split()[-1]), "PyTorch's run", self._epochs)
        return self._epochs * TRAINING_IMAGES / finished.seconds


def _amount_of_work(epochs: int) -> np.ndarray:
    return np.array([epochs, TRAINING_IMAGES, TEST_IMAGES], np.float32)


def _check_accuracy(accuracy: float, name: str, epochs: int) -> None:
    if epochs >= 10 and accuracy < MIN_ACCURACY:
        raise CheckFailedError(f"{name} ends at a test accuracy of {accuracy:.4f}: not comparable")
