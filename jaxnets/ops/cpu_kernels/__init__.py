"""Convolution, max pooling and batch normalisation for CPUs in C++: optional, built on the user's machine.

`build` compiles source/ against the headers of the installed jaxlib, when a script first needs the library
(`background`) or by `python scripts/build_kernels.py`. Where a library is enabled, the operations of
`jaxnets.ops` take these kernels on CPUs, in float32 and bfloat16. The forms in JAX give the same results to
rounding.
"""

import contextlib
import ctypes
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import jax
import numpy as np

from jaxnets.errors import MachineError
from jaxnets.io import command, file_sha256

INSTRUCTIONS = ("emulated AMX", "portable", "AVX2", "AVX-512", "AVX-512 BF16", "AMX")
"""In the order of instructions.h; of those that the CPU has, the last is the fastest."""
BFLOAT16_INSTRUCTIONS = INSTRUCTIONS[4:]
"""Those that multiply bfloat16; with others its products are computed in float32."""
EMULATE_BFLOAT16 = "JAXNETS_EMULATE_BF16"
"""The environment variable of `emulates_bfloat16`."""
FUNCTIONS = (
    *("convolution", "input_gradient", "kernel_gradient", "pack_kernel", "convolution_packed"),
    *("max_pool", "max_pool_gradient", "batch_norm", "batch_norm_gradient", "sum_of_squares"),
)
REMEDY = f"{command('build_kernels')} builds it again, --nokernels runs without it"


@dataclasses.dataclass(frozen=True)
class Kernels:
    """The functions of a loaded library, in the form for one set of instructions.

    `library` is the beginning of the sha256 of its bytes: what the bits of a result depend on.
    """

    library: str
    instructions: str

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether the CPU multiplies bfloat16; else its products are computed in float32, which is slow."""
        return self.instructions in BFLOAT16_INSTRUCTIONS

    def packed_size(self, shape: Sequence[int], groups: int, dtype: Any) -> int:
        """The number of values of a packed convolution kernel [kh, kw, C_in / groups, C_out]."""
        library, number = _libraries[self.library], INSTRUCTIONS.index(self.instructions)
        sizes = (ctypes.c_int64(size) for size in (*shape, groups))
        return library.jaxnets_packed_size(np.dtype(dtype).itemsize, number, *sizes)


def call(
    kernels: Kernels | None,
    function: str,
    results: Any,
    *arrays: jax.Array,
    in_jax: Callable[..., Any],
    geometry: Sequence[int] = (),
    in_place: dict[int, int] | None = None,
    **options: Any,
) -> Any:
    """One of FUNCTIONS, with the derivatives of `in_jax(*arrays)`, or that where `kernels` is None.

    Both compute the same. `results` are the shapes and types of the results; `geometry` and `options` are
    attributes, see ffi.cc. `in_place` maps arguments to the results that may take their memory.
    """
    if kernels is None:
        return in_jax(*arrays)
    # One call for each example under vmap: correct, and nothing of ours maps over images.
    target = jax.ffi.ffi_call(
        _target(kernels.library, function), results, vmap_method="sequential", input_output_aliases=in_place
    )
    options["instructions"] = np.int32(INSTRUCTIONS.index(kernels.instructions))
    if geometry:
        options["geometry"] = np.array(geometry, np.int64)

    @jax.custom_jvp
    def in_cpp(*arrays: jax.Array) -> Any:
        found = target(*arrays, **options)
        return tuple(found) if isinstance(results, tuple) else found

    @in_cpp.defjvp
    def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        return in_cpp(*primals), jax.jvp(in_jax, primals, tangents)[1]

    return in_cpp(*arrays)


Implementation = Literal["auto", "by_shape", "xla"] | Kernels
"""On CPUs, auto: the C++ kernels if they are enabled, else the forms in JAX; by_shape: the forms in JAX;
Kernels: these; xla: XLA's own operation, with derivatives of any order and in any mode. On other platforms
all are XLA's, except for batch normalisation, whose gradient only `xla` leaves to XLA."""


def load(path: Path) -> tuple[Kernels, ...]:
    """Registers a library's functions with JAX; its forms that this CPU can run, the fastest last.

    Raises MachineError if it cannot be loaded or was built for a later version of XLA's FFI.
    """
    from jaxnets.ops.cpu_kernels.build import ffi_version  # imports what builds

    try:
        if (digest := file_sha256(path)[:12]) in _loaded:  # perhaps from another folder
            return _loaded[digest]
        library = ctypes.CDLL(str(path))
        built_for = library.jaxnets_ffi_version
        functions = {name: getattr(library, f"jaxnets_{name}") for name in FUNCTIONS}
    except (OSError, AttributeError) as error:
        raise MachineError(f"{path} cannot be loaded ({error}): {REMEDY}") from error
    built_for.restype = ctypes.c_char_p
    version, ours = tuple(map(int, built_for().split(b"."))), ffi_version()
    if version[0] != ours[0] or version > ours:
        there, here = ("{}.{}".format(*each) for each in (version, ours))
        raise MachineError(f"{path} was built for version {there} of XLA's FFI, here is {here}: {REMEDY}")
    for name, function in functions.items():
        jax.ffi.register_ffi_target(_target(digest, name), jax.ffi.pycapsule(function))
    supported = [each for number, each in enumerate(INSTRUCTIONS) if library.jaxnets_supports(number)]
    library.jaxnets_packed_size.restype = ctypes.c_int64
    _libraries[digest] = library
    _loaded[digest] = tuple(Kernels(digest, instructions) for instructions in supported)
    return _loaded[digest]


class Build(Protocol):
    """A library that is not there yet."""

    def start(self) -> None:
        """Starts to build it, once."""

    def wait(self) -> Path | None:
        """The library when it has been built, or None."""


# Variables that change (BUILD_NOTES.md): a loaded library is registered with JAX until the process ends;
# `enabled` restores `_in_use` and `_build`.
_loaded: dict[str, tuple[Kernels, ...]] = {}
_libraries: dict[str, Any] = {}
_in_use: Kernels | None = None
_build: Build | None = None
_waiting = threading.Lock()


def enable(path: Path) -> None:
    """Uses a library in this process, in its fastest form; raises MachineError as `load`."""
    global _in_use, _build
    forms = load(path)
    if emulates_bfloat16():
        forms = tuple(form for form in forms if not form.multiplies_bfloat16)
    _in_use, _build = forms[-1], None


def emulates_bfloat16() -> bool:
    """Whether products of bfloat16 are computed in float32, to test what uses them on any CPU."""
    return os.environ.get(EMULATE_BFLOAT16) == "1"


@contextlib.contextmanager
def enabled(library: Path | Build | None) -> Iterator[None]:
    """Uses a library, as `enable`, within a block only; None leaves the process as it is."""
    global _in_use, _build
    before = _in_use, _build
    if isinstance(library, Path):
        enable(library)
    elif library is not None:
        _build = library
    try:
        yield
    finally:
        _in_use, _build = before


def on_cpu() -> bool:
    """Whether programs are traced for CPUs; a program that is exported needs the "xla" implementation."""
    return jax.default_backend() == "cpu"


def start_build() -> None:
    """Starts the build of an enabled library that is not there yet, for which `in_use` will wait."""
    if _build is not None and on_cpu():
        _build.start()


def in_use() -> Kernels | None:
    """The kernels of this process, when they have been built; None if none are enabled."""
    global _build
    with _waiting:  # threads may trace at the same time
        if _build is not None and on_cpu():
            if library := _build.wait():
                enable(library)
            _build = None
        return _in_use


def kernels_of(implementation: Implementation) -> Kernels | None:
    """The kernels that an implementation has on CPUs; None for the forms in JAX."""
    if isinstance(implementation, Kernels):
        return implementation
    return in_use() if implementation == "auto" else None


def _target(library: str, function: str) -> str:
    # With the digest: JAX refuses a second library's function of the same name.
    return f"jaxnets_{library}_{function}"
