"""Settings of JAX and XLA, and the hardware that they run on.

Since jaxlib 0.10.2, XLA's CPU compiler uses the YNNPACK library for fused operations. If a matrix product is
fused with a following operation, the result can silently be wrong (jax-ml/jax#39103; two such programs are in
tests/runtime/test_xla.py). Only single products and convolutions remain enabled, the fastest safe setting:
scripts set XLA_FLAGS before JAX starts, and `jit` compiles with it in a user's process.
"""

import contextlib
import ctypes
import functools
import gc
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from jaxnets.errors import ConfigError
from jaxnets.io import user_cache_folder

FLAG, SAFE_FUSIONS = "xla_cpu_experimental_ynn_fusion_type", "individual_dot,individual_convolution"
SAFE_FLAG = f"--{FLAG}={SAFE_FUSIONS}"  # in XLA_FLAGS
COMPILER_OPTIONS = {FLAG: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"}
MEMORY_OPTIONS = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
"""Compiler options for the order of operations on CPUs that needs the least memory."""
FIRST_AFFECTED, FIRST_UNKNOWN = (0, 10, 2), (0, 13)
"""The affected versions of jaxlib. XLA aborts on unknown flags, so unsupported versions do not get it."""
NEUTRAL_FLAGS = (f"--{FLAG}=", "--xla_dump_", "--xla_force_host_platform_device_count=")
"""Flags that are recorded separately or only write files."""
CPUINFO, STATM = Path("/proc/cpuinfo"), Path("/proc/self/statm")
WIDEST = {"avx512f": "AVX-512", "avx2": "AVX2"}
"""CPU flags, widest vectors first; cloud CPUs of the same name may lack them and be half as fast."""
MALLOPT = {-8: 1, -4: 0, -1: -1, -2: 64 << 20}
"""Settings of glibc's mallopt by number: M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD (never), M_TOP_PAD."""
_process: int | None = None


def set_safe_flags(environment: MutableMapping[str, str]) -> None:
    """Adds SAFE_FLAG to XLA_FLAGS unless the user has set the flag; call it before JAX is imported."""
    if is_affected() and fusions_in(environment) is None:
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {SAFE_FLAG}".lstrip()


def fusions_in(environment: Mapping[str, str]) -> str | None:
    """Returns the value of the flag in XLA_FLAGS, such as "individual_dot"; None if it is not set."""
    found = re.findall(rf"(?:^|\s)--{FLAG}=(\S*)", environment.get("XLA_FLAGS", ""))
    return found[-1] if found else None


def is_affected(version: str | None = None) -> bool:
    """Whether a version of jaxlib (default: the installed one) is affected."""
    text = version or importlib.metadata.version("jaxlib")
    release = tuple(int(number) for number in re.findall(r"\d+", text)[:3])
    return FIRST_AFFECTED <= release < FIRST_UNKNOWN


def fusions() -> str:
    """Returns the setting with which this package compiles; "default" for XLA's default."""
    setting = fusions_in(os.environ)
    return (SAFE_FUSIONS if is_affected() else "default") if setting is None else setting


def other_flags() -> list[str]:
    """Returns the other flags of XLA_FLAGS, sorted, on which results may depend too."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    return sorted(flag for flag in flags if not flag.startswith(NEUTRAL_FLAGS))


def compiler_options() -> dict[str, str]:
    """Returns the options of the safe setting, in case JAX read XLA_FLAGS before; {} if that has another."""
    return COMPILER_OPTIONS if is_affected() and fusions() == SAFE_FUSIONS else {}


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Returns `jax.jit(function, **options)` with the safe setting; it cannot be used inside another jit."""
    import jax  # scripts call set_safe_flags before JAX is imported

    return jax.jit(function, compiler_options=compiler_options(), **options)


@contextlib.contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Pauses the collector, which takes a tenth of the time of tracing: nearly all objects are retained."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def collect_garbage_rarely() -> None:
    """Runs the collector after 100,000 new objects instead of 700: a start took 1.80, not 1.92 s."""
    gc.set_threshold(100_000)


@functools.cache
def log_unsafe_default() -> None:
    """Logs once per process that a user's own `jax.jit` uses the unsafe default."""
    if is_affected() and fusions_in(os.environ) is None:
        from jaxnets.runtime import console  # imports rich

        console.log(
            "note",
            "this version of jaxlib computes wrong numbers in some jitted programs on CPUs; the programs of "
            "jaxnets are compiled without the faulty fusions, your own are not; set "
            f'XLA_FLAGS="{SAFE_FLAG}" before JAX starts, or use jaxnets.runtime.xla.jit',
        )


def precision_of(model: config_dict.ConfigDict) -> contextlib.AbstractContextManager[None]:
    """Enables double precision, in this thread, if `model` (config.model) is float64, else disables it."""
    import jax

    return jax.enable_x64(model.dtype == "float64")


def enable_compilation_cache(place: str) -> None:
    """Enables JAX's persistent compilation cache in a folder, or disables it for "none".

    "auto" is JAX_COMPILATION_CACHE_DIR if that is set, else the user's cache folder.
    """
    import jax

    if place == "none":
        jax.config.update("jax_enable_compilation_cache", False)
    elif place != "auto" or not getattr(jax.config, "jax_compilation_cache_dir", None):
        root = user_cache_folder() / "compiled" if place == "auto" else Path(place)
        jax.config.update("jax_compilation_cache_dir", str(root / cache_conditions()))
        # The initialisation of weights compiles many small programs.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def cache_conditions() -> str:
    """Returns a name for what JAX's cache keys lack: programs for other CPUs may crash or be wrong."""
    found = sorted({line for line in _cpuinfo() if line.startswith(("model name", "flags", "Features"))})
    properties = [importlib.metadata.version("jaxlib"), platform.machine(), str(cpu_threads()), *found]
    digest = hashlib.sha256("\n".join(properties).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:16]}"


def hardware() -> str:
    """Returns a description such as "2 cores of AMD EPYC, AVX2" or "1 NVIDIA H200"."""
    import jax

    if jax.default_backend() == "cpu":
        return f"{cpu_threads()} cores of {processor()}"
    return f"{jax.device_count()} {jax.devices()[0].device_kind}"


def cpu_threads() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Returns the CPU's name and widest vector instructions, such as "AMD EPYC, AVX2"."""
    parts = [line.partition(":") for line in reversed(_cpuinfo())]  # the first processor's are retained
    fields = {field.strip(): value.strip() for field, _, value in parts}
    name = fields.get("model name") or platform.processor() or platform.machine()
    flags = fields.get("flags", "").split()
    vectors = next((name for flag, name in WIDEST.items() if flag in flags), None)
    return f"{name}, {vectors}" if vectors else name


def _cpuinfo() -> list[str]:
    """Lines such as "model name: AMD EPYC" and "flags: avx avx2"; [] if they are unknown."""
    if CPUINFO.is_file():
        return CPUINFO.read_text().splitlines()
    return [
        f"model name: {_sysctl('machdep.cpu.brand_string')}",
        f"flags: {_sysctl('machdep.cpu.features', 'machdep.cpu.leaf7_features').lower()}",
    ]


def _sysctl(*names: str) -> str:
    """Values of macOS's kernel; "" for names that this processor does not have, and elsewhere."""
    if sys.platform != "darwin":
        return ""
    done = subprocess.run(["/usr/sbin/sysctl", "-n", *names], capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split())


def retain_freed_memory() -> None:
    """Makes glibc's allocator retain large freed blocks; call this before the first large allocation.

    XLA allocates its temporaries with malloc at every call. By default glibc maps and unmaps such blocks, and
    the page faults take a third of a ResNet training step on CPUs. The process retains its peak memory.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for name, value in MALLOPT.items():
            libc.mallopt(name, value)


def return_freed_memory() -> None:
    """Returns what is free in the heap to the system, whatever `retain_freed_memory` has set."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def resident_memory() -> int:
    """The resident bytes of this process without files that it maps, as caches are; 0 where unknown."""
    if not STATM.is_file():
        return 0
    _, resident, shared, *_ = map(int, STATM.read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def check_not_forked() -> None:
    """Raises ConfigError in a child that was forked after the first call: without JAX's threads it hangs."""
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise ConfigError(
            "this process was forked (os.fork) after JAX had started, which JAX does not support: "
            'use multiprocessing.get_context("spawn")'
        )
