"""An XLA setting that avoids wrong results on CPUs.

Since jaxlib 0.10.2, XLA's CPU compiler uses the YNNPACK library for fused operations. If a matrix product is
fused with a following reduction or elementwise operation, the result can silently be wrong
(jax-ml/jax#39103; tests/runtime/test_xla.py has two such programs). Single products and convolutions are
correct, so only those remain enabled here, which is the fastest safe setting.

Scripts set XLA_FLAGS before JAX starts. In a user's process the environment is not changed; there every
program of this package is compiled with the same setting through `jit` below.
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
"""The affected versions of jaxlib. XLA aborts on unknown flags, so unsupported versions do not get it."""


def set_safe_flags(environment: MutableMapping[str, str]) -> None:
    """Adds the safe setting to XLA_FLAGS unless the user has set the flag; call it before JAX is imported."""
    if is_affected() and fusions_in(environment) is None:
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} {safe_flag()}".lstrip()


def safe_flag() -> str:
    """Returns the flag that XLA_FLAGS must contain for correct results."""
    return f"--{FLAG}={','.join(SAFE_FUSIONS)}"


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
    value = fusions_in(os.environ)
    if value is None:
        return ",".join(SAFE_FUSIONS) if is_affected() else "default"
    return value


def other_flags() -> list[str]:
    """Returns the other flags of XLA_FLAGS, sorted, on which results may depend too.

    Flags that only write files and the number of devices (recorded separately) are omitted.
    """
    neutral = (f"--{FLAG}=", "--xla_dump_", "--xla_force_host_platform_device_count=")
    flags = os.environ.get("XLA_FLAGS", "").split()
    return sorted(flag for flag in flags if not flag.startswith(neutral))


def compiler_options() -> dict[str, str]:
    """Returns the options for `jax.jit` or `Lowered.compile`; {} if XLA_FLAGS has another setting.

    The options are needed even if XLA_FLAGS has the safe setting, because JAX may have read it before.
    """
    if not is_affected() or fusions_in(os.environ) not in (None, ",".join(SAFE_FUSIONS)):
        return {}
    return {FLAG: ",".join(f"LIBRARY_FUSION_TYPE_{name.upper()}" for name in SAFE_FUSIONS)}


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Returns `jax.jit(function, **options)` with the safe setting; it cannot be used inside another jit."""
    import jax  # scripts call set_safe_flags before JAX is imported

    return jax.jit(function, compiler_options=compiler_options(), **options)


@functools.cache
def warn_of_unsafe_default() -> None:
    """Warns once per process that a user's own `jax.jit` uses the unsafe default."""
    if is_affected() and fusions_in(os.environ) is None:
        warnings.warn(
            "this version of jaxlib computes wrong numbers in some jitted programs on CPUs; the programs of "
            "jaxnets are compiled without the faulty fusions, your own are not; set "
            f'XLA_FLAGS="{safe_flag()}" before JAX starts',
            stacklevel=3,
        )
