"""Versions, hardware and git state that a result depends on."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import config_dict

from jaxnets import models
from jaxnets.io import file_sha256
from jaxnets.ops.cpu_kernels import Kernels, in_use
from jaxnets.runtime import xla

FINGERPRINT_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow", "scipy")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Versions of Python, jaxnets and the numerical packages."""
    packages = {package: importlib.metadata.version(package) for package in ("jaxnets", *PACKAGES)}
    return {"python": platform.python_version(), **packages}


def implementation(config: config_dict.ConfigDict) -> str:
    """The implementation of `jaxnets.ops` that the config uses on this machine."""
    if config.model.implementation == "xla":
        return "xla"
    if jax.default_backend() != "cpu":
        return "lax"
    kernels = kernels_of(config)
    if kernels is None and (config.model.compute_dtype or config.model.dtype) == "bfloat16":
        return "cpu: XLA's convolutions, pooling by taps"
    return "cpu: by shape" if kernels is None else f"cpu: C++ kernels, {kernels.instructions}"


def can_use_kernels(config: config_dict.ConfigDict) -> bool:
    """Whether the C++ kernels have operations of the config's network."""
    dtype, is_auto = config.model.compute_dtype or config.model.dtype, config.model.implementation == "auto"
    return dtype in ("float32", "bfloat16") and is_auto and models.entry(config.model.name).kind == "image"


def kernels_of(config: config_dict.ConfigDict) -> Kernels | None:
    """The C++ kernels, if they are enabled and the config can use them."""
    return in_use() if can_use_kernels(config) else None


def determinism_fingerprint(
    *, config: config_dict.ConfigDict, execution: Mapping[str, Any]
) -> dict[str, Any]:
    """What the bits of a run depend on apart from config and data; `execution` is the plan's part."""
    on_cpu = jax.default_backend() == "cpu"
    kernels = kernels_of(config) if on_cpu else None
    network_file = models.registered_in(config.model.name)
    return {
        "platform": jax.default_backend(),
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "cpu_threads": xla.cpu_threads() if on_cpu else None,
        "implementation": implementation(config),
        "x64": jax.dtypes.canonicalize_dtype(float) == "float64",
        "xla_fusions": xla.fusions() if on_cpu else None,
        "xla_flags": xla.other_flags(),
        **({} if kernels is None else {"kernels": kernels.library}),
        **({} if network_file is None else {"network_file": file_sha256(Path(network_file))[:12]}),
        **execution,
        "processor": xla.processor() if on_cpu else jax.devices()[0].device_kind,
        **{package: importlib.metadata.version(package) for package in FINGERPRINT_PACKAGES},
    }


def git_commit() -> str | None:
    """The git commit, with "+changes" if tracked files are modified; None outside a checkout."""
    folder = Path(__file__).parent
    if not (commit := git_output(folder, "rev-parse", "HEAD")):
        return None
    return commit + ("+changes" if git_output(folder, "status", "--porcelain", "-uno") else "")


def git_output(folder: Path, *arguments: str) -> str | None:
    """The output of a git command in a folder; None without git or a repository."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
