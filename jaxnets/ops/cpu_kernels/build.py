"""Compiles source/ into a library, with the C++ compiler of the machine."""

import concurrent.futures
import contextlib
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.ffi

from jaxnets.errors import MachineError
from jaxnets.io import atomic_write, user_cache_folder
from jaxnets.runtime import signals, xla

SOURCE = Path(__file__).parent / "source"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-pthread")
COMMON = ("instructions.cc", "parallel.cc", "convolution.cc", "pooling.cc", "normalization.cc")
"""Compiled for any CPU of the architecture; kernels.cc is compiled for each set of instructions."""


class Variant(NamedTuple):
    """How a source is compiled for a set of instructions, and kernels.cc for a type."""

    table: str
    type: str
    lanes: int
    registers: int
    flags: tuple[str, ...] = ()
    source: str = "kernels.cc"


def variants() -> tuple[Variant, ...]:
    """The variants of this architecture; the library checks on loading which of them the CPU supports."""
    machine = platform.machine().lower()
    registers = 32 if machine in ("aarch64", "arm64") else 16
    portable = (
        Variant("kPortable", "float", 4, registers),
        Variant("kPortableHalf", "Bfloat16", 4, registers),
        Variant("kEmulatedAmx", "Bfloat16", 4, registers, ("-DJAXNETS_EMULATES",), "amx.cc"),
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
        Variant("kAmx", "Bfloat16", 16, 32, (*avx512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"), "amx.cc"),
    )


def ffi_version() -> tuple[int, int]:
    """The version (major, minor) of XLA's FFI in the installed jaxlib.

    XLA calls functions that were compiled for this or an earlier version, and refuses those for a later one
    (`IsSupportedApiVersion` in xla/ffi). jaxlib 0.9.2 to 0.11.0 have 0.3, 0.11.1 and 0.11.2 have 0.4, and
    0.12.0 has 0.5. Raises MachineError if the package of jaxlib has no headers.
    """
    header = Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h"
    try:
        defined = re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", header.read_text())
    except OSError as error:
        raise MachineError(f"{header} of jaxlib cannot be read ({error.strerror})") from error
    versions = {name: int(number) for name, number in defined}
    return versions["MAJOR"], versions["MINOR"]


def library_path(folder: Path) -> Path:
    """The library in `folder` for these sources, this version of the FFI and architecture, built or not."""
    return _paths(folder)[0]


def find(folder: Path | None = None) -> Path | None:
    """The library in `folder`, by default in the user's cache folder; None if it has not been built.

    Of several, this is the one for the latest version of the FFI that the installed jaxlib accepts.
    """
    return next(filter(Path.is_file, _paths(folder or default_folder())), None)


def default_folder() -> Path:
    """The folder of the libraries in the user's cache folder."""
    return user_cache_folder() / "kernels"


def _paths(folder: Path) -> list[Path]:
    """The paths of libraries that the installed jaxlib accepts, that of the latest version first."""
    digest = hashlib.sha256(repr((FLAGS, variants())).encode())
    for path in sorted(SOURCE.glob("*.[ch]*")):
        digest.update(path.name.encode() + path.read_bytes())
    (major, latest), name = ffi_version(), f"{platform.machine()}-{digest.hexdigest()[:12]}.so"
    return [folder / f"kernels-ffi{major}.{minor}-{name}" for minor in range(latest, -1, -1)]


def find_compiler(compiler: str | None = None) -> str:
    """The path of a C++ compiler, by default of $CXX or the first of COMPILERS.

    Raises MachineError if there is none.
    """
    compiler = compiler or os.environ.get("CXX")
    candidates = (compiler,) if compiler else COMPILERS
    command = next(filter(None, map(shutil.which, candidates)), None)
    if command is None:
        raise MachineError(
            f"no C++ compiler ({', '.join(candidates)}): install one (apt install g++, xcode-select "
            "--install), or continue without: the kernels are optional"
        )
    return command


class CompilerError(MachineError):
    """The compiler refused the sources."""


class Compilers:
    """Compiler processes, which `stop` ends from another thread."""

    def __init__(self) -> None:
        self._lock, self._stopped = threading.Lock(), False
        self._running: set[subprocess.Popen[str]] = set()

    def run(self, command: Sequence[str]) -> None:
        """Runs a command; raises MachineError if it fails or is stopped."""
        try:
            with self._lock:
                if self._stopped:
                    raise MachineError("the build of the kernels was stopped")
                # A group of its own, since a compiler starts other processes.
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    process_group=0,
                )
                self._running.add(process)
        except OSError as error:
            cause = f"{command[0]} cannot be run ({error.strerror})"
            raise MachineError(f"{cause}: set CXX to another compiler") from error
        errors = process.communicate()[1]
        with self._lock:
            self._running.remove(process)
            if self._stopped:
                raise MachineError("the build of the kernels was stopped")
        if process.returncode:
            lines = errors.splitlines() or [f"exit code {process.returncode}"]
            first = next((line for line in lines if "error" in line), lines[0])
            raise CompilerError(
                f"{command[0]} refused the kernels ({first[:200]}): GCC 11 or Clang 14 is needed; "
                "set CXX to another compiler, or continue without: the kernels are optional"
            )

    def stop(self) -> None:
        """Ends the running processes; no further one starts."""
        with self._lock:
            self._stopped, running = True, list(self._running)
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)  # compilers remove their temporary files
        for process in running:
            process.wait()


def build(folder: Path, compiler: str | None = None, compilers: Compilers | None = None) -> Path:
    """Compiles and links the library that `library_path` names, replacing an existing one.

    Raises CompilerError if the compiler refuses the sources, and MachineError if there is no compiler, the
    folder cannot be written, or `compilers` were stopped.
    """
    if sys.platform == "win32":
        raise MachineError("the kernels are for Linux and macOS: continue without, they are optional")
    command, path, compilers = find_compiler(compiler), library_path(folder), compilers or Compilers()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _scratch_folder(compilers) as scratch:
            link(command, compile_all(command, scratch, FLAGS, compilers), path, compilers)
    except OSError as error:
        cause = f"{error.filename or folder} cannot be written ({error.strerror})"
        raise MachineError(f"{cause}: choose another --kernels_folder") from error
    return path


@contextlib.contextmanager
def _scratch_folder(compilers: Compilers) -> Iterator[Path]:
    """A temporary folder; a signal that ends this process stops the compilers and removes it."""
    with tempfile.TemporaryDirectory() as scratch:

        def remove() -> None:
            compilers.stop()
            shutil.rmtree(scratch, ignore_errors=True)

        with signals.clean_up(remove):
            yield Path(scratch)


def compile_all(
    compiler: str, folder: Path, flags: Sequence[str], compilers: Compilers | None = None
) -> list[Path]:
    """Compiles every source into an object in `folder`, as many at a time as there are cores.

    All but ffi.o are without JAX: a C++ program of one's own can call them.
    """
    commands, compilers = [], compilers or Compilers()
    for each in reversed(variants()):  # those that take longest are first
        values = {"KERNELS": each.table, "TYPE": each.type, "LANES": each.lanes, "REGISTERS": each.registers}
        defines = [f"-DJAXNETS_{name}={value}" for name, value in values.items()]
        commands.append(
            [*flags, *each.flags, "-fno-exceptions", *defines, each.source, folder / f"{each.table}.o"]
        )
    version = ".".join(map(str, ffi_version()))
    headers = (f"-isystem{jax.ffi.include_dir()}", f'-DJAXNETS_FFI_VERSION="{version}"')
    commands.append([*flags, *headers, "ffi.cc", folder / "ffi.o"])
    commands += [[*flags, name, folder / name.replace(".cc", ".o")] for name in COMMON]

    def compile_one(command: list[str | Path]) -> Path:
        *options, source, target = command
        compilers.run([compiler, *map(str, options), "-c", str(SOURCE / source), "-o", str(target)])
        return Path(target)

    with concurrent.futures.ThreadPoolExecutor(xla.cpu_threads()) as pool:
        try:
            return list(pool.map(compile_one, commands))
        except BaseException:
            compilers.stop()  # the pool would wait for the others
            raise


def link(compiler: str, objects: Sequence[Path], path: Path, compilers: Compilers | None = None) -> None:
    """Links objects into the library `path`, which is written atomically: no process loads a partial file."""
    linked = objects[0].with_name(path.name)
    (compilers or Compilers()).run([compiler, "-shared", "-pthread", *map(str, objects), "-o", str(linked)])
    atomic_write(path, linked.read_bytes())
    linked.unlink()
