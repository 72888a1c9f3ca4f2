"""The XLA setting without which some programs compute wrong numbers on CPUs.

From jaxlib 0.10.2 on, XLA's CPU compiler hands groups of operations to the YNNPACK library. Where a matrix
product is fused with the reduction or the elementwise operations that follow it, results can be wrong without
any error (jax-ml/jax#39103; tests/runtime/test_xla.py has two such programs). Single products and single
convolutions are right, and are all that stays switched on here: of the safe settings that is the fastest.

Scripts put the setting into XLA_FLAGS before JAX starts. A user's own process has its environment left alone:
there, every program of this package is compiled with the same setting through `jit` below.
"""

import functools
import importlib.metadata
import os
import re
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

FLAG = "xla_cpu_experimental_ynn_fusion_type"
SAFE_FUSIONS = ("individual_dot", "individual_convolution")
FIRST_AFFECTED, FIRST_UNKNOWN = (0, 10, 2), (0, 13)
"""Versions of jaxlib that have the fault. XLA aborts on flags that it does not know, so that versions which
this package does not allow are never given any."""


def set_safe_flags(environment: MutableMapping[str, str]) -> None:
    """Adds the safe setting to XLA_FLAGS, unless the user has set the flag. JAX must not be imported yet."""
    if is_affected() and fusions_in(environment) is None:
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} {safe_flag()}".lstrip()


def safe_flag() -> str:
    """What XLA_FLAGS must contain for a process to compute right numbers."""
    return f"--{FLAG}={','.join(SAFE_FUSIONS)}"


def fusions_in(environment: Mapping[str, str]) -> str | None:
    """The value that XLA_FLAGS gives the setting, such as "individual_dot"; None where it gives none."""
    found = re.findall(rf"(?:^|\s)--{FLAG}=(\S*)", environment.get("XLA_FLAGS", ""))
    return found[-1] if found else None


def is_affected(version: str | None = None) -> bool:
    """Whether a version of jaxlib, by default the one that is installed, has the fault and the setting."""
    text = version or importlib.metadata.version("jaxlib")
    release = tuple(int(number) for number in re.findall(r"\d+", text)[:3])
    return FIRST_AFFECTED <= release < FIRST_UNKNOWN


def fusions() -> str:
    """The setting that this package's programs are compiled with here, "default" for XLA's own."""
    given = fusions_in(os.environ)
    if given is None:
        return ",".join(SAFE_FUSIONS) if is_affected() else "default"
    return given


def other_flags() -> list[str]:
    """The rest of XLA_FLAGS, sorted: the user's own flags, which results may depend on as well.

    Flags that only write files, and the number of devices, which is recorded by itself, are left out.
    """
    neutral = (f"--{FLAG}=", "--xla_dump_", "--xla_force_host_platform_device_count=")
    flags = os.environ.get("XLA_FLAGS", "").split()
    return sorted(flag for flag in flags if not flag.startswith(neutral))


def compiler_options() -> dict[str, str]:
    """Options for `jax.jit` or `Lowered.compile`: the safe setting, unless XLA_FLAGS gives another one.

    They are given also where XLA_FLAGS has the safe setting: it may have been added after JAX had read it.
    """
    if not is_affected() or fusions_in(os.environ) not in (None, ",".join(SAFE_FUSIONS)):
        return {}
    return {FLAG: ",".join(f"LIBRARY_FUSION_TYPE_{name.upper()}" for name in SAFE_FUSIONS)}


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit` with the safe setting, for programs that are not part of a larger one.

    Args:
        function: What is compiled. JAX refuses the result inside another `jax.jit`.
        **options: Those of `jax.jit`, without `compiler_options`.

    Returns:
        The jitted function.
    """
    import jax  # scripts call set_safe_flags before JAX is imported

    return jax.jit(function, compiler_options=compiler_options(), **options)


@functools.cache
def warn_of_unsafe_default() -> None:
    """Warns, once in a process, that a user's own `jax.jit` is compiled with the unsafe default."""
    if is_affected() and fusions_in(os.environ) is None:
        warnings.warn(
            "this version of jaxlib computes wrong numbers in some jitted programs on CPUs; the programs of "
            "jaxnets are compiled without the faulty fusions, your own are not: before JAX starts, set "
            f'XLA_FLAGS="{safe_flag()}"',
            stacklevel=3,
        )
