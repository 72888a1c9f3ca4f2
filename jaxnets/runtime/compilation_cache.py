"""JAX's persistent compilation cache."""

import hashlib
import importlib.metadata
import platform
from pathlib import Path

import jax

from jaxnets.io import user_cache_folder
from jaxnets.runtime.hardware import cpu_threads

AUTO, NONE = "auto", "none"
CPUINFO = Path("/proc/cpuinfo")
CPUINFO_FIELDS = ("model name", "flags", "Features")
MIN_SECONDS = 0.0
"""Everything is cached: the initialisation of weights compiles many small programs."""


def enable(place: str) -> Path | None:
    """Enables the compilation cache and returns its folder, or disables it for "none" and returns None.

    `place` is a folder, or "auto": JAX_COMPILATION_CACHE_DIR if that is set, else the user's cache folder.
    There is a subfolder for each kind of CPU, number of threads and version of jaxlib, because a program
    compiled for other instructions may crash or be wrong. If the folder is not writable, it is not used.
    """
    if place == NONE:
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    chosen: str | None = getattr(jax.config, "jax_compilation_cache_dir", None)
    if place == AUTO and chosen:
        return Path(chosen)
    root = user_cache_folder() / "compiled" if place == AUTO else Path(place)
    folder = root / conditions()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    return folder


def conditions() -> str:
    """Returns a name for the properties of the machine that are not in JAX's cache keys."""
    properties = [importlib.metadata.version("jaxlib"), platform.machine(), str(cpu_threads())]
    if CPUINFO.is_file():
        lines = CPUINFO.read_text().splitlines()
        found = {line for line in lines if line.startswith(CPUINFO_FIELDS)}
        properties += sorted(found)
    digest = hashlib.sha256("\n".join(properties).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:16]}"
