"""How step time and memory grow with batch, image size, devices and processes; the plot of it."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxnets.bench.clock import Clock
from jaxnets.bench.measure import IN_JAX_ALONE, WITH_KERNELS, Entry, without_opponent
from jaxnets.bench.ours import build, random_batch, recipe
from jaxnets.bench.worker import PEAK_MEMORY, Worker
from jaxnets.training.parallel import Devices, initialize_distributed

FIGURE = Path("docs") / "performance" / "growth.png"
NARROW = 16
"""Channels of the first stage of the ResNet-50 that is measured; the published one has 64."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A training step to time: network, pixels a side, batch of all, fake devices of each process."""

    network: str
    image_size: int
    batch_size: int
    devices: int = 1
    processes: int = 1

    @property
    def name(self) -> str:
        """The row's."""
        spread = f"/{self.processes}x{self.devices}" if self.processes * self.devices > 1 else ""
        return f"growth/{self.network}/{self.image_size}/{self.batch_size}{spread}"


BATCHES = {
    "lenet5": tuple(Point("lenet5", 28, batch) for batch in (16, 64, 256, 1024)),
    "resnet50": tuple(Point("resnet50", 64, batch) for batch in (4, 16, 64)),
}
SIZES = {
    "lenet5": tuple(Point("lenet5", size, 64) for size in (28, 56, 112)),
    "resnet50": tuple(Point("resnet50", size, 16) for size in (32, 64, 128)),
}
SPREADS = (
    Point("resnet50", 64, 16),
    Point("resnet50", 64, 16, devices=2),
    Point("resnet50", 64, 16, processes=2),
)
POINTS = tuple(
    {p.name: p for p in (*sum(BATCHES.values(), ()), *sum(SIZES.values(), ()), *SPREADS)}.values()
)


class GrowingSide:
    """A training step of a recipe of the bench, its batch on the devices of all processes."""

    def __init__(self, shared: None, *, point: Point, process: int = 0, coordinator: str = ""):
        del shared
        if coordinator:
            initialize_distributed(coordinator, point.processes, process)
        devices = Devices.all()
        config = recipe(point.network, point.image_size, point.batch_size)
        if point.network == "resnet50":
            config.model.width = NARROW
        ours = build(config, axis_name=devices.axis_name)
        batch = random_batch(config, seed=0)
        each = point.batch_size // devices.process_count
        share = slice(devices.process_index * each, (devices.process_index + 1) * each)
        self._batch = devices.place({name: values[share] for name, values in batch.items()})
        self._step = devices.compile_step(ours.train_step, donate=True)
        self._state, self._rows = devices.replicate(ours.state), point.batch_size
        self._clock = Clock(self._take, lambda: jax.block_until_ready(self._state))

    def measure(self, seconds: float, steps: int | None = None) -> float:
        """Images per second of all devices; processes that wait for each other are told the `steps`."""
        return self._rows * (self._clock.time(steps) if steps else self._clock.rate(seconds))

    def _take(self) -> None:
        self._state, _ = self._step(self._state, self._batch)


def measure(
    point: Point, *, rounds: int, seconds: float, kernels: Path | None, start: Any = Worker
) -> Entry:
    """A row: images per second and the largest memory of a process."""
    coordinator = f"localhost:{_free_port()}" if point.processes > 1 else ""
    flags = f"--xla_force_host_platform_device_count={point.devices}"
    options = {"keep_memory": True, "kernels": kernels, "environment": {"XLA_FLAGS": flags}}
    with (
        contextlib.ExitStack() as stack,
        concurrent.futures.ThreadPoolExecutor(point.processes) as pool,
    ):

        def begin(process: int) -> Any:
            make = functools.partial(
                GrowingSide, point=point, process=process, coordinator=coordinator
            )
            return start(make, None, **options)

        sides = [stack.enter_context(side) for side in pool.map(begin, range(point.processes))]
        steps = None
        if point.processes > 1:  # the same number in each, or one would wait for ever
            list(pool.map(lambda side: side.call("measure", seconds, 1), sides))  # compiles
            first = min(pool.map(lambda side: side.call("measure", seconds, 2), sides))
            steps = max(2, round(seconds * first / point.batch_size))
        speeds = [
            min(pool.map(lambda side: side.call("measure", seconds, steps), sides))
            for _ in range(1 + rounds)
        ][1:]
        memory = max(side.call(PEAK_MEMORY) for side in sides)
    return {
        "name": point.name,
        "title": f"{point.network}, {point.image_size} px, batch {point.batch_size}",
        "point": dataclasses.asdict(point),
        "lowering": IN_JAX_ALONE if kernels is None else WITH_KERNELS,
        **without_opponent(speeds, point.batch_size),
        "peak_memory": {"ours": memory},
    }


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Step time and memory over batch and image size, and images/s over devices and processes."""
    from matplotlib.figure import Figure

    found = {row["name"]: row for row in rows if "seconds_a_step" in row}
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    axes = figure.subplots(2, 3)
    for column, (series, label) in enumerate(((BATCHES, "batch_size"), (SIZES, "image_size"))):
        for network, points in series.items():
            there = [point for point in points if point.name in found]
            places = [getattr(point, label) for point in there]
            times = [1e3 * found[point.name]["seconds_a_step"] for point in there]
            memory = [found[point.name]["peak_memory"]["ours"] / 2**30 for point in there]
            axes[0, column].loglog(places, times, "o-", label=network)
            axes[1, column].semilogx(places, memory, "o-", label=network)
        for one in axes[:, column]:
            one.set_xscale("log", base=2)
            one.xaxis.set_major_formatter("{x:g}")
        axes[0, column].yaxis.set_major_formatter("{x:g}")
        axes[0, column].set(ylabel="ms a step")
        axes[1, column].set(ylabel="peak memory, GiB", xlabel=label.replace("_", " "))
        axes[0, column].legend()
    spread = [point for point in SPREADS if point.name in found]
    labels = [f"{p.processes} x {p.devices}" for p in spread]
    axes[0, 2].bar(labels, [found[point.name]["ours"] for point in spread])
    axes[0, 2].set(ylabel="images/s", xlabel="processes x devices, the same cores")
    axes[1, 2].axis("off")
    for one in axes.flat[:-1]:
        one.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format=path.suffix[1:], dpi=110)
    temporary.replace(path)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]
