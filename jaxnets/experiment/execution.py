"""Chooses where examples are stored during training and how many steps one call executes."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
from ml_collections import config_dict

from jaxnets.data.dataset import Dataset
from jaxnets.errors import ConfigError
from jaxnets.experiment.environment import kernels_of
from jaxnets.training.callbacks import Callback
from jaxnets.training.devices import Devices

T = TypeVar("T")
DEVICE = "device"
CPU_FRACTION, ACCELERATOR_FRACTION = 1 / 16, 1 / 4
"""Fraction of the device memory that examples may use. On CPUs, reading from the cache is fast enough."""
STEPS_PER_CALL, SMALL_NETWORK = 50, 1_000_000
"""Steps per call for networks with fewer parameters: a call's overhead would dominate."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclasses.dataclass(frozen=True)
class ExecutionPlan:
    """Whether examples are stored on the device, the steps per call, and a description of both."""

    on_device: bool
    steps_per_execution: int
    description: str

    def determinism_fingerprint(self, data: Dataset) -> dict[str, Any]:
        """The part of a run's determinism fingerprint that depends on the plan."""
        path = f"{data.read_from}, {DEVICE}" if self.on_device else data.read_from
        return {"data_path": path, "steps_per_execution": self.steps_per_execution}


def plan_execution(
    config: config_dict.ConfigDict,
    data: Dataset,
    devices: Devices,
    *,
    parameters: int = 0,
    callbacks: Sequence[Callback] = (),
    previous: Mapping[str, Any] | None = None,
) -> ExecutionPlan:
    """Follows the config; fields that it leaves open follow the resumed run's `previous` fingerprint.

    By default, examples are stored on the device if they are small relative to its memory, and small networks
    execute many steps per call (except with XLA's own convolutions on CPUs, which are slow in a loop).
    Raises ConfigError if the config asks for something impossible.
    """
    previous = previous or {}
    asked, obstacle = config.data.on_device, _obstacle_to_device(data, devices)
    if asked == "yes" and obstacle:
        raise ConfigError(f"--config.data.on_device=yes: {obstacle}")
    on_device = _first(
        (asked == "no" or obstacle is not None, False),
        (asked == "yes", True),
        ("data_path" in previous, previous.get("data_path", "").endswith(DEVICE)),
        (True, data.nbytes <= _device_budget(devices)),
    )
    wanted = config.train.steps_per_execution
    overriding = [each for each in callbacks if type(each).on_step_end is not Callback.on_step_end]
    per_step = [callback.name for callback in overriding if callback.per_step]
    if wanted > 1 and not on_device:
        raise ConfigError(
            f"--config.train.steps_per_execution={wanted} needs the examples on the device: "
            "set --config.data.on_device=yes"
        )
    if wanted > 1 and per_step:
        raise ConfigError(
            f"--config.train.steps_per_execution={wanted}, but callback {per_step[0]} must run after every "
            "step: set `per_step = False` on it, or leave out steps_per_execution"
        )
    on_cpu_with_kernels = jax.default_backend() == "cpu" and kernels_of(config) is not None
    steps = _first(
        (wanted > 0, wanted),
        (not on_device or bool(per_step), 1),
        ("steps_per_execution" in previous, previous.get("steps_per_execution", 1)),
        (parameters >= SMALL_NETWORK, 1),  # the overhead of a call does not matter
        # XLA's own convolution is slow in a loop on CPUs; accelerators were not measured.
        (data.source.kind == "image" and not on_cpu_with_kernels, 1),
        (True, STEPS_PER_CALL),
    )
    calls = "" if steps == 1 else f", up to {steps} steps per call"
    place = f"on the device{calls}" if on_device else "read by threads"
    return ExecutionPlan(on_device, steps, f"examples {place}")


def _first(*rules: tuple[bool, T]) -> T:
    """The value of the first rule whose condition holds."""
    return next(value for holds, value in rules if holds)


def _obstacle_to_device(data: Dataset, devices: Devices) -> str | None:
    if data.read_from == "decode":
        return "images are decoded each time they are read: set --config.data.cache=True"
    if data.features is not None:
        return "the features of the frozen backbone are read from their own cache"
    if devices.process_count > 1:
        return "with several processes, each reads its shard from the cache"
    return None


def _device_budget(devices: Devices) -> float:
    """Bytes that examples may use on each device."""
    fraction = CPU_FRACTION if jax.default_backend() == "cpu" else ACCELERATOR_FRACTION
    return fraction * device_memory(devices)


def device_memory(devices: Devices) -> float:
    """Bytes of memory of each device; 0 if unknown."""
    if jax.default_backend() == "cpu":
        return _host_memory() / devices.local_count
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)


def _host_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's limit; 0 if unknown."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 0
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.is_file() else ""
    return min(total, int(limit)) if limit.isdigit() else total
