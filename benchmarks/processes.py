"""Two processes of one core each against one process with two cores, in jaxnets and in PyTorch's DDP.

Batch statistics are per device on both sides, as is DDP's default; the global batch is the same everywhere.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import socket
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clock import Clock
from benchmarks.measure import IN_JAX_ALONE, LOSS_TOLERANCE, WITH_KERNELS, check_outputs_match
from benchmarks.oracles import has_torch
from benchmarks.schema import BenchRow
from benchmarks.torch_workloads import TrainingWorkload
from benchmarks.worker import PEAK_MEMORY, Worker
from jaxnets.errors import MachineError
from jaxnets.runtime.xla import SAFE_FLAG

PROCESSES = 2
ONE, TWO = "one process of two cores", "two processes of one core"
ALONE = f"{TWO} that do not exchange gradients"
"""Each trains a network of its own: the limit of `TWO`."""
TORCH_ONE, TORCH_TWO = f"PyTorch, {ONE}", f"PyTorch DDP, {TWO}"


@dataclasses.dataclass(frozen=True)
class Run:
    """A training step on a global batch: network, image size, batch size.

    Attributes:
      rank: Index of the process.
      count: Number of processes.
      address: HOST:PORT of the first process.
    """

    network: str
    image_size: int
    batch_size: int
    rank: int = 0
    count: int = 1
    address: str = ""

    @property
    def name(self) -> str:
        """The row's name."""
        return f"processes/{self.network}/{self.image_size}/{self.batch_size}"

    def shard(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the part of a global batch that this process trains on."""
        size = self.batch_size // self.count
        return {name: values[self.rank * size : (self.rank + 1) * size] for name, values in batch.items()}


LEARNING_RATE = 1e-5
"""So small that the loss after an update does not depend on rounding."""
RUNS = (Run("resnet50", 64, 16),)


class JaxnetsProcess:
    """A process of a jaxnets run."""

    def __init__(self, shared: None, *, run: Run):
        import jax  # a PyTorch process never loads JAX

        from benchmarks.jax_model import build, make_config, random_batch
        from jaxnets.interop.convert import to_torch
        from jaxnets.training.devices import Devices, initialize_distributed

        del shared
        if run.count > 1:
            initialize_distributed(run.address, run.count, run.rank)
        devices = Devices.all()
        self._config = make_config(run.network, run.image_size, run.batch_size)
        self._config.model.sync_batch_norm = False
        self._config.optimizer.learning_rate = LEARNING_RATE
        built = build(self._config, axis_name=devices.axis_name)
        self._arrays = {
            name: array
            for tree in jax.device_get(built.state.variables()).values()
            for name, array in to_torch(run.network, tree).items()
        }
        self._global_batch = random_batch(self._config, seed=0)
        self._batch = devices.shard_batch(run.shard(self._global_batch))
        self._step = devices.compile_step(built.train_step, donate=True)
        self._state = devices.replicate(built.state)
        self._metrics: Any = None
        self._clock = Clock(self._take_step, lambda: jax.block_until_ready((self._state, self._metrics)))

    def shared_data(self) -> dict[str, Any]:
        """Returns the config, the initial weights by PyTorch name, and the global batch."""
        return {"config": self._config, "arrays": self._arrays, "batch": self._global_batch}

    def global_losses(self) -> np.ndarray:
        """Returns the mean losses of the global batch before and after the first update, [2]."""
        found = []
        for _ in range(2):
            self._take_step()
            found.append(float(self._metrics["loss"] / self._metrics["weight_sum"]))
        return np.array(found)

    def steps_per_second(self, count: int) -> float:
        """Takes `count` steps; all processes need the same number, or one would wait forever."""
        return self._clock.time(count)

    def _take_step(self) -> None:
        self._state, self._metrics = self._step(self._state, self._batch)


class TorchProcess(TrainingWorkload):
    """A process of a PyTorch run: DistributedDataParallel with Gloo if there are several."""

    def __init__(self, shared: Mapping[str, Any], *, run: Run, threads: int):
        batch = run.shard(shared["batch"])
        super().__init__({**shared, "batch": batch}, channels_last=True, threads=threads)
        self._count = run.count
        if run.count > 1:
            distributed, address = self.torch.distributed, f"tcp://{run.address}"
            distributed.init_process_group("gloo", address, rank=run.rank, world_size=run.count)
            self.apply = self.torch.nn.parallel.DistributedDataParallel(self.network)

    def global_losses(self) -> np.ndarray:
        """Returns the mean losses of the global batch before and after the first update, [2]."""
        found = []
        for _ in range(2):
            self.take_step()
            loss = self._loss.detach().clone()
            if self._count > 1:
                self.torch.distributed.all_reduce(loss)
            found.append(loss.item() / self._count)
        return np.array(found)

    def steps_per_second(self, count: int) -> float:
        """Takes `count` steps."""
        return self._clock.time(count)


class Group:
    """The processes of a run, each on its own cores and with as many threads.

    Args:
      make: Creates a process from its `Run` and its number of threads; what it returns is picklable.
      run: The run, of which rank, count and address are set here.
      shared: Inputs of the processes.
      cores: The cores of each process.
      stack: Ends the processes.
      exchange: Whether the processes train one network together.
      kernels: Library of C++ kernels.
      worker_class: Starts a process.
    """

    def __init__(
        self,
        make: Callable[[Run, int], Callable[[Any], Any]],
        run: Run,
        shared: Any,
        cores: Sequence[set[int]],
        stack: contextlib.ExitStack,
        *,
        exchange: bool = True,
        kernels: Path | None = None,
        worker_class: Callable[..., Any] = Worker,
    ):
        self._batch_size, address = run.batch_size, f"localhost:{free_port()}"
        self._pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(len(cores)))

        def start(rank: int) -> Any:
            # The affinity of this thread; the process inherits it, and JAX starts a thread for each core.
            os.sched_setaffinity(0, cores[rank])
            if exchange:
                one = dataclasses.replace(run, rank=rank, count=len(cores), address=address)
            else:
                one = dataclasses.replace(run, batch_size=run.batch_size // len(cores))
            environment = {"XLA_FLAGS": SAFE_FLAG}
            options: dict[str, Any] = {"keep_memory": True, "kernels": kernels, "environment": environment}
            return worker_class(make(one, len(cores[rank])), shared, **options)

        self._workers = [stack.enter_context(each) for each in self._pool.map(start, range(len(cores)))]

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Calls a method in all processes at the same time."""
        return list(self._pool.map(lambda worker: worker.call(method, *arguments), self._workers))

    def images_per_second(self, steps: int) -> float:
        """Returns images of the global batch per second, of the slowest process."""
        return self._batch_size * min(self.call("steps_per_second", steps))


def measure(
    run: Run, *, rounds: int, seconds: float, kernels: Path | None, worker_class: Callable[..., Any] = Worker
) -> list[BenchRow]:
    """Returns a row in which `ours` and `theirs` are the speeds of two processes over those of one.

    All groups are measured in every round. Raises MachineError on fewer than two cores, CheckFailedError if
    the losses of the groups differ.
    """
    cores = sorted(os.sched_getaffinity(0))[:PROCESSES]
    if len(cores) < PROCESSES:
        raise MachineError(f"{run.name} needs {PROCESSES} cores, here is {len(cores)}")
    together, apart = [set(cores)], [{core} for core in cores]
    with contextlib.ExitStack() as stack:
        start = functools.partial(Group, run=run, stack=stack, worker_class=worker_class)
        options = {"make": _make_jaxnets, "shared": None, "kernels": kernels}
        groups = {name: start(**options, cores=each) for name, each in ((ONE, together), (TWO, apart))}
        groups[ALONE] = start(**options, cores=apart, exchange=False)
        (shared,) = groups[ONE].call("shared_data")
        if has_torch():
            for name, each in ((TORCH_ONE, together), (TORCH_TWO, apart)):
                groups[name] = start(make=_make_torch, shared=shared, cores=each)
        _check_losses(run, {name: group.call("global_losses")[0] for name, group in groups.items()})
        steps = {
            name: max(2, round(seconds * group.images_per_second(2) / run.batch_size))
            for name, group in groups.items()
        }
        speeds: dict[str, list[float]] = {name: [] for name in groups}
        for _ in range(rounds):
            for name, group in groups.items():
                speeds[name].append(group.images_per_second(steps[name]))
        memory = {name: max(group.call(PEAK_MEMORY)) for name, group in groups.items()}
    ours, theirs = _ratios(speeds, TWO, ONE), _ratios(speeds, TORCH_TWO, TORCH_ONE)
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=False)]
    return [
        {
            "name": run.name,
            "title": f"{run.network}, {run.image_size} px, batch {run.batch_size}: two processes over one",
            "unit": "ratio",
            "implementation": IN_JAX_ALONE if kernels is None else WITH_KERNELS,
            "ours": statistics.median(ours),
            "theirs": statistics.median(theirs) if theirs else None,
            "ratio": statistics.median(ratios) if ratios else None,
            "range": [min(ours), max(ours)],
            "rounds": rounds,
            "baseline": TORCH_TWO if theirs else None,
            "images_per_second": speeds,
            "peak_memory": memory,
        }
    ]


def _make_jaxnets(run: Run, threads: int) -> Callable[[Any], Any]:
    del threads  # as many as cores
    return functools.partial(JaxnetsProcess, run=run)


def _make_torch(run: Run, threads: int) -> Callable[[Any], Any]:
    return functools.partial(TorchProcess, run=run, threads=threads)


def _check_losses(run: Run, losses: Mapping[str, np.ndarray]) -> None:
    """Raises CheckFailedError if one and two processes, or the two libraries, have other losses.

    Two processes normalize half as many images at a time, so their losses differ from those of one.
    """
    for first, second in ((ONE, TORCH_ONE), (TWO, TORCH_TWO)):
        if second in losses:
            pair = losses[first], losses[second]
            check_outputs_match(f"{run.name}, {first},", second, *pair, tolerance=LOSS_TOLERANCE)


def _ratios(speeds: Mapping[str, list[float]], first: str, second: str) -> list[float]:
    pairs = zip(speeds.get(first, []), speeds.get(second, []), strict=True)
    return [mine / other for mine, other in pairs]


def free_port() -> int:
    """Returns a port of this machine that is not in use."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]
