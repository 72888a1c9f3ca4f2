"""Devices and processes: compilation, replication and collectives."""

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxnets.data.batch import Batch
from jaxnets.errors import MachineError
from jaxnets.runtime import xla

AXIS = "data"
HEARTBEAT_SECONDS = 30  # a process that is silent for longer has failed


@dataclasses.dataclass(frozen=True)
class Devices:
    """`jit` on one device, else `pmap` over those of all processes; the state has no device axis."""

    count: int
    local_count: int
    process_index: int
    process_count: int

    @classmethod
    def all(cls) -> "Devices":
        """Returns all devices that JAX sees."""
        return cls(jax.device_count(), jax.local_device_count(), jax.process_index(), jax.process_count())

    @property
    def axis_name(self) -> str | None:
        """The mapped axis of steps; None on one device."""
        return AXIS if self.count > 1 else None

    @property
    def shard(self) -> tuple[int, int]:
        """The index of this process and the number of processes."""
        return self.process_index, self.process_count

    @property
    def is_process_zero(self) -> bool:
        """True in the process that writes files and prints."""
        return self.process_index == 0

    def compile_step(
        self,
        step: Callable[..., Any],
        *,
        donate: bool,
        shared: tuple[Any, ...] = (),
        least_memory: bool = False,
    ) -> "CompiledStep":
        """Returns the jitted or pmapped `step`, with `shared` as further, replicated arguments.

        With `least_memory`, XLA computes values as late as possible on CPUs, not as early; a program of
        several processes is compiled without it.
        """
        options = xla.compiler_options() | (xla.MEMORY_OPTIONS if least_memory else {})
        donated = (0,) if donate else ()
        if self.axis_name is None:
            return CompiledStep(jax.jit(step, donate_argnums=donated), shared, options)
        axes = (None, 0, *(None for _ in shared))
        mapped = jax.pmap(step, axis_name=AXIS, in_axes=axes, out_axes=None, donate_argnums=donated)
        # A program of several processes cannot be lowered from the shapes of one. It is compiled when it is
        # called, and then compiler options cannot be passed.
        if self.process_count > 1 and xla.is_affected() and xla.fusions_in(os.environ) is None:
            raise MachineError(
                f'several processes need XLA_FLAGS="{xla.SAFE_FLAG}" to be set before JAX starts: '
                "without it this version of jaxlib computes wrong numbers in some programs"
            )
        return CompiledStep(mapped, shared, options, ahead_of_time=self.process_count == 1)

    def replicate(self, state: Any) -> Any:
        """Returns the state on every device."""
        if self.axis_name is None:
            return jax.device_put(state)
        identity = jax.pmap(lambda _, state: state, axis_name=AXIS, in_axes=(0, None), out_axes=None)
        return identity(np.zeros(self.local_count), state)

    def shard_batch(self, batch: Batch, *, axis: int = 0) -> Batch:
        """Shards this process's part of a batch over its devices; examples are along `axis`."""
        if self.axis_name is None:
            return jax.device_put(batch)

        def shard(x: np.ndarray) -> np.ndarray:
            shape = (*x.shape[:axis], self.local_count, -1, *x.shape[axis + 1 :])
            return np.moveaxis(np.reshape(x, shape), axis, 0)

        return jax.tree.map(shard, batch)

    def all_reduce_max(self, number: int | None) -> int | None:
        """Returns the largest number (> 0) of all processes, or None; every process must call it."""
        if self.process_count == 1:
            return number
        from jax.experimental import multihost_utils

        return int(np.max(multihost_utils.process_allgather(np.asarray(number or 0)))) or None

    @contextlib.contextmanager
    def collective_section(self) -> Iterator[None]:
        """All processes fail if one does in this block; the others, which would wait, raise MachineError."""
        try:
            yield
        except Exception:
            self.all_reduce_max(1)
            raise
        if self.all_reduce_max(None) is not None:
            raise MachineError("another process failed (see its log): fix that and restart all processes")


LARGE_STEP = 64 << 20
"""Bytes of a step from which it waits on CPUs for the one before, whose memory it then takes."""
TRIMMED_CALLS = 3
"""The first calls of a large step, before which freed memory is returned to the system.

glibc's heap grows by another block for the temporaries of these calls, until one that was freed fits.
"""
LIMIT = 1.5
"""Growth of the process, in sizes of a step's memory, from which freed memory is returned again.

The heap may use two blocks by turns. If one of them is returned each time, its pages are mapped again.
"""
SECONDS_TO_FREE = 0.0005
"""Time that XLA is given to free the temporaries of a step that has ended; it does so in another thread.

Without it MobileNetV2 at 224 px used two or three blocks of temporaries, of 1.2 GB each, instead of one.
"""


class CompiledStep:
    """A step that is compiled ahead of time, once per batch shape.

    On CPUs, large steps run one at a time: ResNet-50 at 224 px peaked at 5.9 GB when the next step was
    dispatched early, and peaks at 1.9 to 3.3 GB at the same speed. On a busy machine XLA may free a step's
    temporaries after the next step has allocated its own: if the process has grown, memory is returned again.
    """

    def __init__(
        self, function: Any, shared: tuple[Any, ...], options: dict[str, str], *, ahead_of_time: bool = True
    ):
        self._function, self._shared, self._ahead_of_time = function, shared, ahead_of_time
        self._options = options
        self._compiled: dict[tuple[Any, ...], Any] = {}
        self._is_large, self._calls, self._last = False, 0, None
        self._limit = math.inf

    def compile(self, state: Any, batch: Batch) -> Any:
        """Compiles the step for batches of this shape, and returns it as a function of the same arguments."""
        if not self._ahead_of_time:
            return self._function
        shapes = tuple((name, np.shape(batch[name])) for name in sorted(batch))
        if shapes not in self._compiled:
            with xla.paused_garbage_collection():
                lowered = self._function.lower(state, batch, *self._shared)
            self._compiled[shapes] = lowered.compile(compiler_options=self._options)
            self._is_large = jax.default_backend() == "cpu" and self.memory() >= LARGE_STEP
        return self._compiled[shapes]

    def memory(self) -> int:
        """The bytes that the largest compiled program uses on a device, with its arguments; 0 if unknown."""
        sizes = [0]
        for program in self._compiled.values():
            if (use := program.memory_analysis()) is not None:
                arguments = use.argument_size_in_bytes - use.alias_size_in_bytes
                sizes.append(arguments + use.output_size_in_bytes + use.temp_size_in_bytes)
        return max(sizes)

    def __call__(self, state: Any, batch: Batch) -> Any:
        program = self.compile(state, batch)
        if self._is_large:
            jax.block_until_ready(self._last)
            time.sleep(SECONDS_TO_FREE)
            self._return_freed_memory()
        results = program(state, batch, *self._shared)
        if self._is_large:  # the last array is not of the state, which the next step may donate
            self._last = jax.tree.leaves(results)[-1]
        return results

    def _return_freed_memory(self) -> None:
        self._calls += 1
        resident = xla.resident_memory()
        if self._calls == TRIMMED_CALLS + 1:
            self._limit = resident + LIMIT * self.memory()
        if self._calls <= TRIMMED_CALLS or resident > self._limit:
            xla.return_freed_memory()


def initialize_distributed(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Connects to the other processes; without addresses JAX queries SLURM, Open MPI or Kubernetes."""
    # The C++ handler of this service would intercept SIGTERM.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        hint = "pass --coordinator=HOST:PORT --num_processes=N --process_id=I"
        raise MachineError(
            f"--distributed: cannot connect to the other processes ({reason}); {hint}"
        ) from error
