"""Time of a training or inference step on CPUs by kind of operation."""

import dataclasses
import functools
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks.jax_workloads import InferenceWorkload, TrainingWorkload, matmul_rate
from benchmarks.measure import IN_JAX_ALONE, WITH_KERNELS, row_without_baseline
from benchmarks.schema import BenchRow
from benchmarks.worker import PEAK_MEMORY, Worker
from jaxnets.models import entry
from studies.pages.performance_page import PARTS

FORWARD, BACKWARD, POOLING, SUMS, CONCATENATION, OTHER = PARTS
STEPS = 3
"""Profiled steps."""

_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%([\w.\-]+) = (.*)$", re.MULTILINE)
_TARGET = re.compile(r'custom_call_target="jaxnets_[0-9a-f]+_(\w+)"')
_OPERATION = re.compile(r'op_name="([^"]*)"')
_KERNEL_KINDS = {
    "convolution": FORWARD,
    "convolution_packed": FORWARD,
    "pack_kernel": FORWARD,
    "input_gradient": BACKWARD,
    "kernel_gradient": BACKWARD,
    "max_pool": POOLING,
    "max_pool_gradient": POOLING,
    "batch_norm": SUMS,
    "batch_norm_gradient": SUMS,
    "sum_of_squares": SUMS,
}
_POOLS = ("reduce_window", "select_and_scatter")


@dataclasses.dataclass(frozen=True)
class Step:
    """A training or inference step."""

    network: str
    image_size: int
    batch_size: int = 16
    trains: bool = True

    @property
    def name(self) -> str:
        """Prefix of the names of its rows."""
        kind = "profile" if self.trains else "profile/inference"
        return f"{kind}/{self.network}/{self.image_size}/{self.batch_size}"

    @property
    def title(self) -> str:
        """The rows' title."""
        network = entry(self.network).title
        kind = "training" if self.trains else "inference"
        return f"{kind}, {network}, {self.image_size} px, batch {self.batch_size}"


STEPS_PROFILED = (
    *(Step("resnet50", size) for size in (64, 128, 224)),
    Step("alexnet", 32, 64),
    *(Step(n, 128) for n in ("inception_v1", "inception_v3", "inception_resnet_v2", "densenet121")),
    *(Step(network, 224) for network in ("inception_resnet_v2", "mobilenet_v2")),
    *(Step("resnet50", size, trains=False) for size in (64, 128, 224)),
    *(Step("inception_resnet_v2", size, trains=False) for size in (128, 224)),
    Step("inception_v1", 224, trains=False),
)


class ProfiledWorkload:
    """A step whose operations can be profiled."""

    def __init__(self, shared: None, *, step: Step):
        workload = TrainingWorkload if step.trains else InferenceWorkload
        self._workload = workload(
            shared, network=step.network, image_size=step.image_size, batch_size=step.batch_size
        )

    def measure(self, seconds: float) -> float:
        """Returns images per second without the profiler."""
        return self._workload.measure(seconds)

    def seconds_by_kind(self) -> dict[str, float]:
        """Returns seconds per step by kind; operations that run in parallel are added up."""
        workload = self._workload
        for _ in range(2):
            workload.take_step()
        workload.wait()
        kinds = kinds_by_instruction(workload.program())
        found: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        with tempfile.TemporaryDirectory(prefix="jaxnets-profile-") as folder:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level, options.host_tracer_level = 0, 3
            jax.profiler.start_trace(folder, profiler_options=options)
            for _ in range(STEPS):
                workload.take_step()
            workload.wait()
            jax.profiler.stop_trace()
            (path,) = Path(folder).rglob("*.xplane.pb")
            for name, seconds in _events(path):
                if name in kinds:
                    found[kinds[name]] += seconds / STEPS
        return found

    def flops_per_step(self) -> float:
        """Returns the floating point operations of convolutions and matrix products."""
        return self._workload.config.train.batch_size * self._workload.flops_per_image()

    def matmul_rate(self) -> float:
        """Returns the floating point operations per second of a large matrix product."""
        return matmul_rate("float32")


def kinds_by_instruction(program: str) -> dict[str, str]:
    """Returns the kind of each compiled instruction; a fusion has the kind of its last operation."""
    return {name: _kind(text) for name, text in _INSTRUCTION.findall(program)}


def _kind(text: str) -> str:
    target, operation = _TARGET.search(text), _OPERATION.search(text)
    if target is not None:
        return _KERNEL_KINDS[target[1]]
    path = operation[1] if operation is not None else ""
    last = path.rsplit("/", 1)[-1]
    if last.startswith(("conv_general_dilated", "dot_general")):
        return BACKWARD if "transpose(" in path else FORWARD
    if last.startswith(_POOLS):
        return POOLING
    if last.startswith("reduce_sum"):
        return SUMS
    return CONCATENATION if last.startswith("concatenate") else OTHER


def _events(path: Path) -> Iterator[tuple[str, float]]:
    """Yields (instruction, seconds) of a profile."""
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                yield event.name, event.duration_ns / 1e9


def measure(
    step: Step,
    *,
    rounds: int,
    seconds: float,
    kernels: Path | None,
    worker_class: Callable[..., Any] = Worker,
) -> Iterator[BenchRow]:
    """Yields a row with the C++ kernels, if given, and one without them."""
    make = functools.partial(ProfiledWorkload, step=step)
    for library in dict.fromkeys((kernels, None)):
        name = f"{step.name}/{'kernels' if library is not None else 'jax'}"
        with worker_class(make, None, keep_memory=True, kernels=library) as worker:
            speeds = [worker.call("measure", seconds) for _ in range(1 + rounds)][1:]
            row = row_without_baseline(name, speeds, step.batch_size)
            row["parts"] = worker.call("seconds_by_kind")
            row["operations"], row["of_a_product"] = worker.call("flops_per_step"), worker.call("matmul_rate")
            row["peak_memory"] = {"ours": worker.call(PEAK_MEMORY)}
        row["title"] = step.title
        row["implementation"] = WITH_KERNELS if library is not None else IN_JAX_ALONE
        yield row
