"""Runs a finder on a set of images in its own environment, and measures time and memory."""

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from benchmarks.conditions import code_version
from benchmarks.duplicates import finders, scored_pairs
from benchmarks.duplicates.finders import FINDERS, PROGRAMS, Finder
from benchmarks.duplicates.image_sets import ImageSet
from benchmarks.duplicates.scored_pairs import ScoredPairs
from jaxnets.errors import MachineError
from jaxnets.io import atomic_write, file_sha256
from jaxnets.runtime import console, signals

REPOSITORY = Path(__file__).parents[2]
POLL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run of a finder cost; `failed` is the reason if it has no output.

    Attributes:
      code: Digest of the program, of what it reads, and for our own finders of the package.
      version: The version of the finder's package.
      seconds: Duration.
      processor_seconds: Processor time of all its processes.
      peak_memory: Most bytes of all its processes together, each shared page divided among its users.
      failed: Why there is no output.
    """

    code: str
    version: str = ""
    seconds: float = 0.0
    processor_seconds: float = 0.0
    peak_memory: int = 0
    failed: str | None = None


def run_finder(
    name: str, image_set: ImageSet, folder: Path, environments: Path, limit: float | None = None
) -> Run:
    """Runs a finder, unless `folder` has the output of the same program for the same images.

    Args:
      name: One of `FINDERS`.
      image_set: The images.
      folder: Folder of the outputs.
      environments: Folder of the virtual environments.
      limit: Minutes after which the finder is stopped.
    """
    finder, output = FINDERS[name], output_path(name, image_set, folder)
    record, code = output.with_suffix(".json"), _code(finder, image_set)
    if record.is_file():
        stored = Run(**json.loads(record.read_text()))
        if stored.code == code and stored.failed is None:
            return stored
    output.parent.mkdir(parents=True, exist_ok=True)
    with console.phase("find") as phase:
        try:
            python = finders.interpreter(finder.environment, environments)
            run = _measure(finder, python, image_set, output, code, limit)
        except MachineError as error:
            run = Run(code, failed=str(error))
        phase.text = (
            f"{image_set.name}, {name}: {run.failed or f'{run.processor_seconds:.0f} s of processor time'}"
        )
    atomic_write(record, json.dumps(dataclasses.asdict(run), indent=1) + "\n")
    return run


def output_path(name: str, image_set: ImageSet, folder: Path) -> Path:
    """Returns the file with a finder's output."""
    return folder / image_set.name / f"{name}.npz"


def load_output(path: Path) -> ScoredPairs | np.ndarray:
    """Reads a finder's output: pairs, or groups int[L, N]."""
    with np.load(path) as arrays:
        return arrays["groups"] if "groups" in arrays else ScoredPairs(**arrays)


def _code(finder: Finder, image_set: ImageSet) -> str:
    program = Path(__file__).parent / "programs" / f"{finder.program}.py"
    files = (program, Path(scored_pairs.__file__), image_set.folder / "truth.json")
    parts = [file_sha256(file) for file in files] + [finder.method]
    if finder.environment == finders.OURS:
        parts.append(str(code_version()))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _measure(
    finder: Finder, python: Path, image_set: ImageSet, output: Path, code: str, limit: float | None
) -> Run:
    command = [str(python), "-m", f"{PROGRAMS}.{finder.program}", str(image_set.images), str(output)]
    log = output.with_suffix(".log")
    start, peak, deadline = time.monotonic(), 0, None if limit is None else 60 * limit
    with open(log, "w") as sink, _started([*command, finder.method], sink) as process:
        while (ended := _ended(process)) is None:
            peak = max(peak, _memory(process.pid))
            if deadline is not None and time.monotonic() - start > deadline:
                return Run(code, failed=f"stopped after {limit:g} minutes")
            time.sleep(POLL_SECONDS)
    exit_code, processor_seconds = ended
    seconds = time.monotonic() - start
    if exit_code:
        lines = log.read_text(errors="replace").strip().splitlines()
        return Run(code, failed=lines[-1][:200] if lines else f"exit code {exit_code}")
    version = json.loads(output.with_suffix(".version.json").read_text())
    return Run(code, version, round(seconds, 1), round(processor_seconds, 1), peak)


@contextlib.contextmanager
def _started(command: list[str], sink: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a command in its own process group, which is killed at the end."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        command,
        stdout=sink,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        cwd=REPOSITORY,
    )

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    try:
        with signals.clean_up(end):
            yield process
    finally:
        end()
        process.wait()


def _ended(process: subprocess.Popen[bytes]) -> tuple[int, float] | None:
    """Returns exit code and processor seconds, also of its children, once the process has ended."""
    done, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not done:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def _memory(pid: int) -> int:
    """Returns the bytes of a process and its descendants; 0 where /proc does not exist."""
    total = 0
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += 1024 * int(line.split()[1])
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            total += sum(_memory(int(child)) for child in children.read_text().split())
    return total
