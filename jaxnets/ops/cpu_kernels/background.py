"""Builds the library when a network first needs it, in a thread, while the run prepares its data."""

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxnets.errors import MachineError
from jaxnets.io import atomic_write, command, file_lock
from jaxnets.ops import cpu_kernels
from jaxnets.ops.cpu_kernels import build
from jaxnets.runtime import console

VARIABLE = "JAXNETS_BUILD_KERNELS"
"""An environment variable: with 0, only scripts/build_kernels.py builds the library."""
NO_COMPILER = "no compiler"
REMEDY = f"{command('build_kernels')} tries again, --nokernels hides this message"


@contextlib.contextmanager
def enabled(folder: Path | None = None) -> Iterator[None]:
    """Uses the library in `folder` (default: in the user's cache folder) within a block.

    If it is missing, it is built as soon as a network needs it, unless the process uses another one.
    """
    folder = folder or build.default_folder()
    library, may_build = build.find(folder), os.environ.get(VARIABLE) != "0"
    if library is not None or not may_build or cpu_kernels.in_use() is not None:
        with cpu_kernels.enabled(library):
            yield
        return
    with contextlib.closing(BackgroundBuild(folder)) as missing, cpu_kernels.enabled(missing):
        yield


class BackgroundBuild:
    """Builds the library in `folder` in a thread, from `start` on.

    Of several processes, one builds and the others wait for it. A file beside the library remembers a
    compiler that has failed, which is not tried again.
    """

    def __init__(self, folder: Path):
        self._folder, self._compilers = folder, build.Compilers()
        self._failed = build.library_path(folder).with_suffix(".failed")
        self._thread = threading.Thread(target=self._run, name="kernels", daemon=True)
        self._starting = threading.Lock()
        self._library: Path | None = None
        self._report: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Starts the thread, once."""
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()

    def wait(self) -> Path | None:
        """The library, or None if it cannot be built; logs what was built, or why nothing was."""
        self.start()
        if self._thread.is_alive():
            console.log_progress("kernels", "waiting for the C++ compiler (only at the first start)")
        self._thread.join()
        self._report()
        return self._library

    def close(self) -> None:
        """Stops a build that is not finished."""
        self._compilers.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=1)  # longer only if it waits for another process

    def _run(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with file_lock(self._folder / ".lock"):
                self._library = build.find(self._folder) or self._build()
        except OSError as error:
            place = error.filename or self._folder
            text = f"no C++ kernels, since {place} cannot be written ({error.strerror})"
            self._report = functools.partial(console.warn, text)
        except MachineError as error:
            self._report = functools.partial(console.warn, f"no C++ kernels ({REMEDY}): {error}")

    def _build(self) -> Path | None:
        last, _, reason = self._failed.read_text().partition("\n") if self._failed.is_file() else ("", "", "")
        try:
            compiler = build.find_compiler()
        except MachineError as error:
            if last != NO_COMPILER:
                atomic_write(self._failed, f"{NO_COMPILER}\n{error}\n")
                self._report = functools.partial(console.log, "note", str(error))
            return None
        file = Path(compiler).resolve()
        version = f"{file} {file.stat().st_mtime_ns}"
        if last == version:
            raise MachineError(reason.strip())
        start = time.perf_counter()
        try:
            library = build.build(self._folder, compiler, self._compilers)
        except build.CompilerError as error:
            atomic_write(self._failed, f"{version}\n{error}\n")
            raise
        text = f"C++ kernels for CPUs, built in {time.perf_counter() - start:.0f} s: {library}"
        self._report = functools.partial(console.log, "kernels", f"{text}; --nokernels runs without them")
        return library
