"""How step time and memory scale with batch size, image size, devices and processes."""

import concurrent.futures
import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks.clock import Clock
from benchmarks.jax_model import build, make_config, random_batch
from benchmarks.measure import IN_JAX_ALONE, WITH_KERNELS, row_without_baseline
from benchmarks.processes import free_port
from benchmarks.schema import BenchRow
from benchmarks.worker import PEAK_MEMORY, Worker
from jaxnets.runtime.xla import SAFE_FLAG
from jaxnets.training.devices import Devices, initialize_distributed

WIDTH = 16
"""Channels of the first stage of the measured ResNet-50; the original has 64."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A training step to time: network, image size, global batch size, simulated devices per process."""

    network: str
    image_size: int
    batch_size: int
    devices: int = 1
    processes: int = 1

    @property
    def name(self) -> str:
        """The row's name."""
        devices = f"/{self.processes}x{self.devices}" if self.processes * self.devices > 1 else ""
        return f"growth/{self.network}/{self.image_size}/{self.batch_size}{devices}"


POINTS = (
    *(Point("lenet5", 28, batch) for batch in (16, 64, 256, 1024)),
    *(Point("resnet50", 64, batch) for batch in (4, 16, 64)),
    *(Point("lenet5", size, 64) for size in (56, 112)),
    *(Point("resnet50", size, 16) for size in (32, 128)),
    Point("resnet50", 64, 16, devices=2),
    Point("resnet50", 64, 16, processes=2),
)


class ScalingWorkload:
    """A training step whose batch is sharded over the devices of all processes."""

    def __init__(self, shared: None, *, point: Point, process: int = 0, coordinator: str = ""):
        del shared
        if coordinator:
            initialize_distributed(coordinator, point.processes, process)
        devices = Devices.all()
        config = make_config(point.network, point.image_size, point.batch_size)
        if point.network == "resnet50":
            config.model.width = WIDTH
        built = build(config, axis_name=devices.axis_name)
        batch = random_batch(config, seed=0)
        size = point.batch_size // devices.process_count
        shard = slice(devices.process_index * size, (devices.process_index + 1) * size)
        self._batch = devices.shard_batch({name: values[shard] for name, values in batch.items()})
        self._step = devices.compile_step(built.train_step, donate=True)
        self._state, self._batch_size = devices.replicate(built.state), point.batch_size
        self._clock = Clock(self._run_step, lambda: jax.block_until_ready(self._state))

    def measure(self, seconds: float, steps: int | None = None) -> float:
        """Returns images per second over all devices.

        Processes that wait for each other must be given the same number of `steps`.
        """
        return self._batch_size * (self._clock.time(steps) if steps else self._clock.rate(seconds))

    def _run_step(self) -> None:
        self._state, _ = self._step(self._state, self._batch)


def measure(
    point: Point,
    *,
    rounds: int,
    seconds: float,
    kernels: Path | None,
    worker_class: Callable[..., Any] = Worker,
) -> list[BenchRow]:
    """Returns a row with images per second and the peak memory of a process."""
    coordinator = f"localhost:{free_port()}" if point.processes > 1 else ""
    flags = f"{SAFE_FLAG} --xla_force_host_platform_device_count={point.devices}"
    start = functools.partial(
        worker_class, keep_memory=True, kernels=kernels, environment={"XLA_FLAGS": flags}
    )
    workloads = [
        functools.partial(ScalingWorkload, point=point, process=process, coordinator=coordinator)
        for process in range(point.processes)
    ]
    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(point.processes) as pool:
        workers = [stack.enter_context(worker) for worker in pool.map(lambda w: start(w, None), workloads)]

        def slowest(steps: int | None) -> float:
            return min(pool.map(lambda worker: worker.call("measure", seconds, steps), workers))

        steps = None
        if point.processes > 1:  # all need the same number of steps, or one would wait forever
            slowest(1)  # compiles
            steps = max(2, round(seconds * slowest(2) / point.batch_size))
        speeds = [slowest(steps) for _ in range(1 + rounds)][1:]
        memory = max(worker.call(PEAK_MEMORY) for worker in workers)
    row = row_without_baseline(point.name, speeds, point.batch_size)
    row["point"], row["peak_memory"] = dataclasses.asdict(point), {"ours": memory}
    row["implementation"] = IN_JAX_ALONE if kernels is None else WITH_KERNELS
    return [row]
