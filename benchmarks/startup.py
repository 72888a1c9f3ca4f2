"""Time from process start to the first training step, imports and compilation included.

    python -m benchmarks.startup jax SHARED_DATA LEARNING_RATE COMPILATION_CACHE [KERNELS]
    python -m benchmarks.startup torch SHARED_DATA

SHARED_DATA is a pickle of `NetworkWorkload.shared_data`, COMPILATION_CACHE a folder or "none", KERNELS the
library of C++ kernels, or a folder in which it is built.
"""

import contextlib
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.subprocess_workload import SubprocessWorkload, module_environment
from jaxnets.errors import MachineError


class StartupWorkload(SubprocessWorkload):
    """Starts processes that run one training step."""

    def __init__(self, library: str, shared: dict[str, Any]):
        self._folder = tempfile.TemporaryDirectory(prefix="jaxnets-bench-")
        path = Path(self._folder.name) / "shared"
        path.write_bytes(pickle.dumps(shared))
        self._command = [sys.executable, "-m", "benchmarks.startup", library, str(path)]
        self._parameters = sum(array.size for array in shared["arrays"].values())

    def outputs(self) -> np.ndarray:
        """Returns the number of parameters and statistics."""
        return np.array([self._parameters], np.float64)

    def measure(self, seconds: float) -> float:
        """Returns starts per second, measured over one start."""
        del seconds
        command = [*self._command, *self._arguments()]
        return 1 / self.run(command, "a start", env=module_environment()).seconds

    def _arguments(self) -> list[str]:
        """Returns the arguments after SHARED_DATA."""
        return []


class JaxnetsStartup(StartupWorkload):
    """Starts jaxnets.

    Args:
      warm: Whether to use the compilation cache of earlier starts; else there is none.
      kernels: Library of C++ kernels.
      builds_kernels: Whether each start builds the library, as the first one on a machine does.
      new_learning_rates: Whether each start has another learning rate, which no earlier start had.
    """

    def __init__(
        self,
        shared: Any,
        *,
        warm: bool,
        kernels: Path | None,
        builds_kernels: bool = False,
        new_learning_rates: bool = False,
        **shape: Any,
    ):
        from benchmarks.jax_workloads import NetworkWorkload

        self._shared_data = NetworkWorkload(None, **shape).shared_data()
        super().__init__("jax", self._shared_data)
        self._cache = str(Path(self._folder.name) / "compiled") if warm else "none"
        self._kernels, self._builds_kernels = kernels, builds_kernels
        self._new_learning_rates, self._starts = new_learning_rates, 0

    def shared_data(self) -> dict[str, Any]:
        """Returns what `NetworkWorkload.shared_data` returns."""
        return self._shared_data

    def _arguments(self) -> list[str]:
        learning_rate = self._shared_data["config"].optimizer.learning_rate
        if self._new_learning_rates:
            learning_rate *= 1 + self._starts / 64
        self._starts += 1
        kernels = [str(self._kernels)] if self._kernels else []
        if self._builds_kernels:
            kernels = [str(Path(self._folder.name) / f"kernels{self._starts}")]
        return [repr(learning_rate), self._cache, *kernels]


class TorchStartup(StartupWorkload):
    """Starts eager PyTorch, which compiles nothing."""

    def __init__(self, shared: dict[str, Any], *, threads: int):
        super().__init__("torch", {**shared, "threads": threads})


def _run_jax_step(shared: dict[str, Any], learning_rate: str, cache: str, kernels: str | None = None) -> None:
    from jaxnets.runtime import xla

    xla.collect_garbage_rarely()
    from jaxnets.ops import cpu_kernels
    from jaxnets.ops.cpu_kernels.background import BackgroundBuild

    xla.enable_compilation_cache(cache)
    with contextlib.ExitStack() as stack:
        if kernels and Path(kernels).is_file():
            cpu_kernels.enable(Path(kernels))
        elif kernels:
            missing = stack.enter_context(contextlib.closing(BackgroundBuild(Path(kernels))))
            stack.enter_context(cpu_kernels.enabled(missing))
            cpu_kernels.start_build()
        from benchmarks.jax_workloads import TrainingWorkload

        config = shared["config"]
        workload = TrainingWorkload(
            None,
            network=config.model.name,
            image_size=config.data.image_size,
            batch_size=config.train.batch_size,
            learning_rate=float(learning_rate),
        )
        workload.take_step()
        workload.wait()
        if kernels and cpu_kernels.in_use() is None:
            raise MachineError("the C++ kernels could not be built")


def _run_torch_step(shared: dict[str, Any]) -> None:
    from benchmarks.torch_workloads import TrainingWorkload

    workload = TrainingWorkload(shared, channels_last=True, threads=shared["threads"])
    workload.take_step()
    workload.wait()


if __name__ == "__main__":
    run_step = {"jax": _run_jax_step, "torch": _run_torch_step}[sys.argv[1]]
    run_step(pickle.loads(Path(sys.argv[2]).read_bytes()), *sys.argv[3:])
