"""How step time and memory grow with batch, image size, devices and processes."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import socket
from pathlib import Path
from typing import Any

import jax

from benchmarks.clock import Clock
from benchmarks.jax_model import build, make_config, random_batch
from benchmarks.measure import IN_JAX_ALONE, WITH_KERNELS, Entry, single_side_row
from benchmarks.worker import PEAK_MEMORY, Worker
from jaxnets.training.devices import Devices, initialize_distributed

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


POINTS = (
    *(Point("lenet5", 28, batch) for batch in (16, 64, 256, 1024)),
    *(Point("resnet50", 64, batch) for batch in (4, 16, 64)),
    *(Point("lenet5", size, 64) for size in (56, 112)),
    *(Point("resnet50", size, 16) for size in (32, 128)),
    Point("resnet50", 64, 16, devices=2),
    Point("resnet50", 64, 16, processes=2),
)


class GrowingSide:
    """A training step of a benchmark config, its batch on the devices of all processes."""

    def __init__(self, shared: None, *, point: Point, process: int = 0, coordinator: str = ""):
        del shared
        if coordinator:
            initialize_distributed(coordinator, point.processes, process)
        devices = Devices.all()
        config = make_config(point.network, point.image_size, point.batch_size)
        if point.network == "resnet50":
            config.model.width = NARROW
        ours = build(config, axis_name=devices.axis_name)
        batch = random_batch(config, seed=0)
        each = point.batch_size // devices.process_count
        share = slice(devices.process_index * each, (devices.process_index + 1) * each)
        self._batch = devices.shard_batch({name: values[share] for name, values in batch.items()})
        self._step = devices.compile_step(ours.train_step, donate=True)
        self._state, self._rows = devices.replicate(ours.state), point.batch_size
        self._clock = Clock(self._take, lambda: jax.block_until_ready(self._state))

    def measure(self, seconds: float, steps: int | None = None) -> float:
        """Images per second of all devices; processes that wait for each other get the number of `steps`."""
        return self._rows * (self._clock.time(steps) if steps else self._clock.rate(seconds))

    def _take(self) -> None:
        self._state, _ = self._step(self._state, self._batch)


def measure(point: Point, *, rounds: int, seconds: float, kernels: Path | None, start: Any = Worker) -> Entry:
    """A row: images per second and the largest memory of a process."""
    coordinator = f"localhost:{_free_port()}" if point.processes > 1 else ""
    flags = f"--xla_force_host_platform_device_count={point.devices}"
    options = {"keep_memory": True, "kernels": kernels, "environment": {"XLA_FLAGS": flags}}
    with (
        contextlib.ExitStack() as stack,
        concurrent.futures.ThreadPoolExecutor(point.processes) as pool,
    ):

        def begin(process: int) -> Any:
            make = functools.partial(GrowingSide, point=point, process=process, coordinator=coordinator)
            return start(make, None, **options)

        sides = [stack.enter_context(side) for side in pool.map(begin, range(point.processes))]
        steps = None
        if point.processes > 1:  # the same number in each, or one would wait for ever
            list(pool.map(lambda side: side.call("measure", seconds, 1), sides))  # compiles
            first = min(pool.map(lambda side: side.call("measure", seconds, 2), sides))
            steps = max(2, round(seconds * first / point.batch_size))
        speeds = [
            min(pool.map(lambda side: side.call("measure", seconds, steps), sides)) for _ in range(1 + rounds)
        ][1:]
        memory = max(side.call(PEAK_MEMORY) for side in sides)
    return {
        "name": point.name,
        "point": dataclasses.asdict(point),
        "implementation": IN_JAX_ALONE if kernels is None else WITH_KERNELS,
        **single_side_row(speeds, point.batch_size),
        "peak_memory": {"ours": memory},
    }


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]
