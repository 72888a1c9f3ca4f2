"""Where the time of a training step or of inference goes, by kind of operation, on CPUs."""

import dataclasses
import functools
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks.jax_workloads import InferenceSide, TrainingSide, product_rate
from benchmarks.measure import IN_JAX_ALONE, WITH_KERNELS, Entry, single_side_row
from benchmarks.worker import PEAK_MEMORY, Worker
from jaxnets.models import entry
from studies.pages.performance_page import PARTS

FORWARD, BACKWARD, POOLING, SUMS, JOINING, REST = PARTS
STEPS = 3
"""Under the profiler at a time."""

_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%([\w.\-]+) = (.*)$", re.MULTILINE)
_TARGET = re.compile(r'custom_call_target="jaxnets_[0-9a-f]+_(\w+)"')
_OPERATION = re.compile(r'op_name="([^"]*)"')
_OF_KERNELS = {
    "convolution": FORWARD,
    "input_gradient": BACKWARD,
    "kernel_gradient": BACKWARD,
    "max_pool": POOLING,
    "max_pool_gradient": POOLING,
    "moments": SUMS,
    "moment_products": SUMS,
}
_POOLS = ("reduce_window", "select_and_scatter")


@dataclasses.dataclass(frozen=True)
class Step:
    """A step: network, pixels a side, batch, and whether it trains."""

    network: str
    image_size: int
    batch_size: int = 16
    trains: bool = True

    @property
    def name(self) -> str:
        """Of its rows."""
        kind = "profile" if self.trains else "profile/inference"
        return f"{kind}/{self.network}/{self.image_size}/{self.batch_size}"

    @property
    def title(self) -> str:
        """For a person."""
        network = entry(self.network).title
        kind = "training" if self.trains else "inference"
        return f"{kind}, {network}, {self.image_size} px, batch {self.batch_size}"


STEPS_PROFILED = (
    *(Step("resnet50", size) for size in (64, 128, 224)),
    Step("alexnet", 32, 64),
    *(Step(n, 128) for n in ("inception_v1", "inception_v3", "inception_resnet_v2", "densenet121")),
    *(Step("resnet50", size, trains=False) for size in (64, 128, 224)),
)


class ProfiledSide:
    """A step whose operations are timed one by one."""

    def __init__(self, shared: None, *, step: Step):
        side = TrainingSide if step.trains else InferenceSide
        self._side = side(
            shared,
            network=step.network,
            image_size=step.image_size,
            batch_size=step.batch_size,
        )

    def measure(self, seconds: float) -> float:
        """Images per second, outside the profiler."""
        return self._side.measure(seconds)

    def parts(self) -> dict[str, float]:
        """Seconds a step by kind; what runs at the same time counts each for itself."""
        side = self._side
        for _ in range(2):
            side.take_step()
        side.wait()
        kinds = kinds_of(side.program())
        found: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        with tempfile.TemporaryDirectory(prefix="jaxnets-profile-") as folder:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level, options.host_tracer_level = 0, 3
            jax.profiler.start_trace(folder, profiler_options=options)
            for _ in range(STEPS):
                side.take_step()
            side.wait()
            jax.profiler.stop_trace()
            (path,) = Path(folder).rglob("*.xplane.pb")
            for name, seconds in _events(path):
                if name in kinds:
                    found[kinds[name]] += seconds / STEPS
        return found

    def speeds(self) -> dict[str, float]:
        """Operations a step of convolutions and products, and a second in a product of large matrices."""
        operations = self._side.config.train.batch_size * self._side.operations_per_image()
        return {"operations": operations, "of_a_product": product_rate("float32")}


def kinds_of(program: str) -> dict[str, str]:
    """The kind of each instruction of a compiled program by name; a fusion's is its last operation's."""
    return {name: _kind(text) for name, text in _INSTRUCTION.findall(program)}


def _kind(text: str) -> str:
    target, operation = _TARGET.search(text), _OPERATION.search(text)
    if target is not None:
        return _OF_KERNELS[target[1]]
    path = operation[1] if operation is not None else ""
    last = path.rsplit("/", 1)[-1]
    if last.startswith(("conv_general_dilated", "dot_general")):
        return BACKWARD if "transpose(" in path else FORWARD
    if last.startswith(_POOLS):
        return POOLING
    if last.startswith("reduce_sum"):
        return SUMS
    return JOINING if last.startswith("concatenate") else REST


def _events(path: Path) -> Iterator[tuple[str, float]]:
    """(instruction, seconds) of a profile."""
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                yield event.name, event.duration_ns / 1e9


def measure(
    step: Step, *, rounds: int, seconds: float, kernels: Path | None, start: Any = Worker
) -> Iterator[Entry]:
    """A row with the C++ kernels, where there are any, and one in JAX alone."""
    make = functools.partial(ProfiledSide, step=step)
    for library in dict.fromkeys((kernels, None)):
        with start(make, None, keep_memory=True, kernels=library) as side:
            speeds = [side.call("measure", seconds) for _ in range(1 + rounds)][1:]
            message = {"parts": side.call("parts"), **side.call("speeds")}
            memory = {"ours": side.call(PEAK_MEMORY)}
        implementation = WITH_KERNELS if library is not None else IN_JAX_ALONE
        yield {
            "name": f"{step.name}/{'kernels' if library is not None else 'jax'}",
            "title": step.title,
            "implementation": implementation,
            "peak_memory": memory,
            **single_side_row(speeds, step.batch_size),
            **message,
        }
