"""Where the examples lie while a network trains, and how many steps a call of the program takes."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import config_dict

from jaxnets.errors import ConfigError
from jaxnets.experiment.data import Data
from jaxnets.experiment.environment import kernels_of
from jaxnets.training.callbacks import Callback
from jaxnets.training.devices import Devices
from jaxnets.training.on_device import Examples

DEVICE = "device"
CPU_SHARE, ACCELERATOR_SHARE = 1 / 16, 1 / 4
"""Of a device's memory that examples may take: on CPUs the readers of the cache keep up with large ones."""
STEPS_PER_CALL, SMALL_NETWORK = 50, 1_000_000
"""Steps of a call for networks of fewer parameters than that: their steps are short beside a call's cost."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclasses.dataclass(frozen=True)
class ExecutionPlan:
    """Whether examples stay on the device, and the steps of a call; `description` says so in words."""

    on_device: bool
    steps_per_execution: int
    description: str

    def determinism_fingerprint(self, data: Data) -> dict[str, Any]:
        """What the bits of a run depend on of this."""
        path = f"{data.path}, {DEVICE}" if self.on_device else data.path
        return {"data_path": path, "steps_per_execution": self.steps_per_execution}


def place(
    config: config_dict.ConfigDict,
    data: Data,
    devices: Devices,
    *,
    parameters: int = 0,
    callbacks: Sequence[Callback] = (),
    before: Mapping[str, Any] | None = None,
) -> ExecutionPlan:
    """What the recipe asks for; where it leaves the choice, what a run that goes on had `before`, else ours.

    Ours: on the device where the examples take a small share of its memory; many steps a call for small
    networks where the program has no convolution of XLA's own on a CPU, which is slow in a loop. Raises
    ConfigError where the recipe asks for what cannot be.
    """
    before = before or {}
    size, why_not = data.nbytes, _why_not_on_device(data, devices)
    if config.data.on_device == "yes" and why_not:
        raise ConfigError(f"--config.data.on_device=yes: {why_not}")
    if config.data.on_device == "auto" and "data_path" in before:
        on_device = before["data_path"].endswith(DEVICE) and not why_not
    elif config.data.on_device == "auto":
        on_device = not why_not and size <= _device_budget(devices)
    else:
        on_device = config.data.on_device == "yes"
    steps = _steps_per_execution(config, data, on_device, parameters, callbacks, before)
    if not on_device:
        return ExecutionPlan(on_device, steps, f"{size / 1e6:,.0f} MB of examples read by threads")
    calls = "1 step a call" if steps == 1 else f"up to {steps} steps a call"
    return ExecutionPlan(
        on_device, steps, f"{size / 1e6:,.0f} MB of examples on the device, {calls}"
    )


def fits_on_device(data: Data, devices: Devices) -> Examples:
    """Every example of the source, on every device."""
    return devices.replicate(data.examples())


def _why_not_on_device(data: Data, devices: Devices) -> str | None:
    if data.path == "decode":
        return "images are decoded at every access: set --config.data.cache=True"
    if data.features is not None:
        return "what the frozen body gives is read from its own cache"
    if devices.process_count > 1:
        return "several processes read their shares from the cache"
    return None


def _steps_per_execution(
    config: config_dict.ConfigDict,
    data: Data,
    on_device: bool,
    parameters: int,
    callbacks: Sequence[Callback],
    before: Mapping[str, Any],
) -> int:
    wanted = config.train.steps_per_execution
    if wanted > 1 and not on_device:
        raise ConfigError(
            f"--config.train.steps_per_execution={wanted} needs the examples on the device: "
            "set --config.data.on_device=yes"
        )
    listening = [callback.name for callback in callbacks if callback.needs_every_step()]
    if wanted > 1 and listening:
        raise ConfigError(
            f"--config.train.steps_per_execution={wanted}, but {listening[0]} hears of every step: "
            "set its every_step=False, or leave steps_per_call out"
        )
    if wanted or not on_device or listening:
        return wanted or 1
    if "steps_per_execution" in before:
        return before["steps_per_execution"]
    with_kernels = jax.default_backend() == "cpu" and kernels_of(config) is not None
    # XLA's own convolution on CPUs is; an accelerator's was not measured.
    slow_in_a_loop = data.source.kind == "image" and not with_kernels
    return 1 if slow_in_a_loop or parameters >= SMALL_NETWORK else STEPS_PER_CALL


def _device_budget(devices: Devices) -> float:
    """Bytes that examples may take on each device."""
    if jax.default_backend() == "cpu":
        return CPU_SHARE * _host_memory() / devices.local_count
    found = jax.local_devices()[0].memory_stats() or {}
    return ACCELERATOR_SHARE * found.get("bytes_limit", 0)


def _host_memory() -> int:
    """Bytes of memory that this process may have: the machine's, or its container's limit."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 0
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.is_file() else ""
    return min(whole, int(limit)) if limit.isdigit() else whole
