"""Compiled programs kept between runs, so that the second start of a run does not compile again."""

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
"""What compiles in less is not kept: everything is, since many small programs draw the initial weights."""


def enable(place: str) -> Path | None:
    """Has JAX keep what it compiles in a folder of `place`; that folder, None for "none".

    `place` is a folder, or "auto": the one that JAX has been told already (JAX_COMPILATION_CACHE_DIR), else
    one in the user's cache folder. Below ours stands a folder for each kind of CPU, number of threads and
    version of jaxlib: a program compiled for other instructions may run wrongly here or die. A folder that
    cannot be written is no fault: JAX compiles as without it.
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
    """A name for what compiled programs depend on here, beside what JAX's own keys hold."""
    message = [importlib.metadata.version("jaxlib"), platform.machine(), str(cpu_threads())]
    if CPUINFO.is_file():
        lines = CPUINFO.read_text().splitlines()
        found = {line for line in lines if line.startswith(CPUINFO_FIELDS)}
        message += sorted(found)
    digest = hashlib.sha256("\n".join(message).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:16]}"
