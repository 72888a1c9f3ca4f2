"""Compiles source/ into a library, with the C++ compiler of the machine."""

import concurrent.futures
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax.ffi
import jaxlib

from jaxnets.errors import MachineError
from jaxnets.io import user_cache_folder

SOURCE = Path(__file__).parent / "source"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-pthread")
COMMON = ("parallel.cc", "convolution.cc", "pooling.cc", "normalization.cc")
"""Compiled for any CPU of the architecture; kernels.cc is compiled for each set of instructions."""


class Variant(NamedTuple):
    """How kernels.cc is compiled for a set of instructions and a type."""

    table: str
    type: str
    lanes: int
    registers: int
    flags: tuple[str, ...] = ()


def variants() -> tuple[Variant, ...]:
    """The variants of this architecture; the library checks on loading which of them the CPU supports."""
    machine = platform.machine().lower()
    registers = 32 if machine in ("aarch64", "arm64") else 16
    portable = (
        Variant("kPortable", "float", 4, registers),
        Variant("kPortableHalf", "Bfloat16", 4, registers),
    )
    if machine not in ("x86_64", "amd64"):
        return portable
    avx2 = ("-mavx2", "-mfma")
    avx512 = (*avx2, *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl")), "-mprefer-vector-width=512")
    return (
        *portable,
        Variant("kAvx2", "float", 8, 16, avx2),
        Variant("kAvx2Half", "Bfloat16", 8, 16, avx2),
        Variant("kAvx512", "float", 16, 32, avx512),
        Variant("kAvx512Bf16Half", "Bfloat16", 16, 32, (*avx512, "-mavx512bf16")),
    )


def library_path(folder: Path) -> Path:
    """The library in `folder` for these sources, this jaxlib and this architecture, built or not."""
    digest = hashlib.sha256(repr((FLAGS, variants())).encode())
    for path in sorted(SOURCE.glob("*.[ch]*")):
        digest.update(path.name.encode() + path.read_bytes())
    version, machine = jaxlib.__version__, platform.machine()
    return folder / f"kernels-jaxlib{version}-{machine}-{digest.hexdigest()[:12]}.so"


def find(folder: Path | None = None) -> Path | None:
    """The library in `folder`, by default in the user's cache folder; None if it has not been built."""
    path = library_path(folder or user_cache_folder() / "kernels")
    return path if path.is_file() else None


def build(folder: Path, compiler: str | None = None) -> Path:
    """Compiles and links the library that `library_path` names, replacing an existing one.

    Raises MachineError if there is no compiler, it refuses the sources, or the folder cannot be written.
    """
    if sys.platform == "win32":
        raise MachineError("the kernels are for Linux and macOS: continue without, they are optional")
    candidates = (compiler,) if compiler else COMPILERS
    path, command = library_path(folder), next(filter(None, map(shutil.which, candidates)), None)
    if command is None:
        raise MachineError(
            f"no C++ compiler ({', '.join(candidates)}): install one (apt install g++, xcode-select "
            "--install), or continue without: the kernels are optional"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            link(command, compile_all(command, Path(scratch), FLAGS), path)
    except OSError as error:
        cause = f"{folder} cannot be written ({error.strerror})"
        raise MachineError(f"{cause}: choose another --kernels_folder") from error
    return path


def compile_all(compiler: str, folder: Path, flags: Sequence[str]) -> list[Path]:
    """Compiles every source into an object in `folder`, as many at a time as there are cores.

    All but ffi.o are without JAX: a C++ program of one's own can call them.
    """
    commands = []
    for each in variants():
        values = {"KERNELS": each.table, "TYPE": each.type, "LANES": each.lanes, "REGISTERS": each.registers}
        defines = [f"-DJAXNETS_{name}={value}" for name, value in values.items()]
        commands.append([*flags, *each.flags, *defines, "kernels.cc", folder / f"{each.table}.o"])
    headers = (f"-isystem{jax.ffi.include_dir()}", f'-DJAXNETS_JAXLIB="{jaxlib.__version__}"')
    commands.append([*flags, *headers, "ffi.cc", folder / "ffi.o"])
    commands += [[*flags, name, folder / name.replace(".cc", ".o")] for name in COMMON]

    def compile_one(command: list[str | Path]) -> Path:
        *options, source, target = command
        _run([compiler, *map(str, options), "-c", str(SOURCE / source), "-o", str(target)])
        return Path(target)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, commands))


def link(compiler: str, objects: Sequence[Path], path: Path) -> None:
    """Links objects into the library `path` and renames it, so that no process loads a partial file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _run([compiler, "-shared", "-pthread", *map(str, objects), "-o", str(temporary)])
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        cause = f"{command[0]} cannot be run ({error.strerror})"
        raise MachineError(f"{cause}: choose another --compiler") from error
    if done.returncode:
        lines = done.stderr.splitlines() or [f"exit code {done.returncode}"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise MachineError(
            f"{command[0]} refused the kernels ({first[:200]}): GCC 11 or Clang 14 is needed; "
            "choose another --compiler, or continue without: the kernels are optional"
        )
