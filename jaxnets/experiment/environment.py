"""What a result depends on beside its recipe: versions, hardware, the state of the code."""

import hashlib
import importlib.metadata
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import config_dict

from jaxnets.ops.cpu_kernels.load import Kernels, in_use
from jaxnets.runtime import hardware, xla
from jaxnets.runtime.hardware import cpu_threads

FINGERPRINT_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow", "scipy")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what computes."""
    found = {"python": platform.python_version()}
    for package in ("jaxnets", *PACKAGES):
        found[package] = importlib.metadata.version(package)
    return found


def implementation(config: config_dict.ConfigDict) -> str:
    """Which form of `jaxnets.ops` the recipe's programs are compiled to here."""
    if config.model.implementation == "xla":
        return "xla"
    if jax.default_backend() != "cpu":
        return "lax"
    if (config.model.compute_dtype or config.model.dtype) == "bfloat16":
        return "cpu: XLA's convolutions, pooling by taps"
    kernels = kernels_of(config)
    return "cpu: by shape" if kernels is None else f"cpu: C++ kernels, {kernels.instructions}"


def kernels_of(config: config_dict.ConfigDict) -> Kernels | None:
    """The C++ kernels, where this process has them and the recipe leaves its computing to them."""
    computes_in = config.model.compute_dtype or config.model.dtype
    takes_them = computes_in == "float32" and config.model.implementation == "auto"
    return in_use() if takes_them else None


def determinism_fingerprint(
    *, config: config_dict.ConfigDict, placement: Mapping[str, Any]
) -> dict[str, Any]:
    """What the bits of a run depend on, beside its recipe and its data; `placement` is its part of it."""
    kernels = kernels_of(config) if jax.default_backend() == "cpu" else None
    return {
        "platform": jax.default_backend(),
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "cpu_threads": cpu_threads() if jax.default_backend() == "cpu" else None,
        "implementation": implementation(config),
        "x64": jax.dtypes.canonicalize_dtype(float) == "float64",
        "xla_fusions": xla.fusions() if jax.default_backend() == "cpu" else None,
        "xla_flags": xla.other_flags(),
        **({} if kernels is None else {"kernels": kernels.library}),
        **placement,
        "processor": hardware.processor()
        if jax.default_backend() == "cpu"
        else jax.devices()[0].device_kind,
        **{package: importlib.metadata.version(package) for package in FINGERPRINT_PACKAGES},
    }


def git_commit() -> str | None:
    """The commit of the code in use, with "+changes" where files differ; None outside a checkout."""
    folder = Path(__file__).parent
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return commit + ("+changes" if _git(folder, "status", "--porcelain", "-uno") else "")


def code_version() -> str | None:
    """What git calls the package's files, and a hash of what differs from them; None outside a checkout.

    Unlike a commit it stays the same while pages and results change.
    """
    folder = Path(__file__).parent.parent
    tree = _git(folder, "rev-parse", "HEAD:./")
    if not tree:
        return None
    changes = _git(folder, "diff", "HEAD", ".")
    return tree + (f"+{hashlib.sha256(changes.encode()).hexdigest()[:12]}" if changes else "")


def command() -> str:
    """The command line, quoted as a shell needs it."""
    return shlex.join(["python", *sys.argv])


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
