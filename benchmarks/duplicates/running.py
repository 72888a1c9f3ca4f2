"""Runs a finder on a set of images in its own environment, and measures its processor time and memory."""

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.conditions import code_version
from benchmarks.duplicates import finders, scored_pairs
from benchmarks.duplicates.finders import FINDERS, PROGRAMS, Finder
from benchmarks.duplicates.image_sets import ImageSet
from benchmarks.duplicates.scored_pairs import ScoredPairs
from benchmarks.resource_usage import children_of, memory_with_children, processor_seconds
from benchmarks.subprocess_workload import REPOSITORY, measured_command
from jaxnets.errors import MachineError
from jaxnets.io import atomic_write, file_sha256
from jaxnets.runtime import console, signals

SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
"""Seconds between two measurements of memory, which take much time if a finder uses much memory."""

_INSTALLATION = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run of a finder cost; `failed` is the reason if it has no output.

    Attributes:
      key: Digest of all that the output depends on.
      version: The version of the finder's package.
      processor_seconds: Processor time of all its processes.
      peak_memory: Most bytes of all its processes together, each shared page divided among its users.
      failed: Why there is no output.
      stopped: The limit in minutes of processor time that it reached.
    """

    key: str
    version: str = ""
    processor_seconds: float = 0.0
    peak_memory: int = 0
    failed: str | None = None
    stopped: float | None = None


@dataclasses.dataclass(frozen=True)
class Runner:
    """Runs finders.

    Attributes:
      outputs: Folder of the outputs.
      environments: Folder of the virtual environments.
      limit: Minutes of processor time after which a finder is stopped.
    """

    outputs: Path
    environments: Path
    limit: float

    def run(self, name: str, setting: str, image_set: ImageSet) -> Run:
        """Runs a finder, unless there is the output of the same program for the same images.

        A run that failed is repeated, unless it was stopped after at least this limit.
        """
        finder, output = FINDERS[name], self.output(name, setting, image_set)
        record, key = output.with_suffix(".json"), run_key(finder, setting, image_set)
        if record.is_file():
            stored = Run(**json.loads(record.read_text()))
            if stored.key == key and (stored.failed is None or (stored.stopped or 0) >= self.limit):
                return stored
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _INSTALLATION:
                python = finders.interpreter(finder.environment, self.environments)
            run = self._measure(finder, python, setting, image_set, output)
        except MachineError as error:
            run = Run(key, failed=str(error))
        outcome = run.failed or f"{run.processor_seconds:.1f} s of processor time"
        console.log("found", f"{image_set.name}, {' '.join(filter(None, (name, setting)))}: {outcome}")
        run = dataclasses.replace(run, key=key)
        atomic_write(record, json.dumps(dataclasses.asdict(run), indent=1) + "\n")
        return run

    def output(self, name: str, setting: str, image_set: ImageSet) -> Path:
        """Returns the file with a finder's output."""
        named = "-".join((name, *setting.split()))
        return self.outputs / image_set.folder.name / f"{named}.npz"

    def _measure(self, finder: Finder, python: Path, setting: str, image_set: ImageSet, output: Path) -> Run:
        program = [
            str(python),
            "-m",
            f"{PROGRAMS}.{finder.program}",
            str(image_set.images),
            str(output),
            setting,
        ]
        log, usage = output.with_suffix(".log"), output.with_suffix(".usage")
        peak, pause = 0, SHORTEST_PAUSE
        with _started(program, log, usage, self.environments / "torch") as process:
            while process.poll() is None:
                peak = max(peak, sum(map(memory_with_children, children_of(process.pid))))
                time.sleep(pause)
                pause = min(1.1 * pause, LONGEST_PAUSE)
                if processor_seconds(process.pid) > 60 * self.limit:
                    failed = f"stopped after {self.limit:g} minutes of processor time"
                    return Run("", failed=failed, stopped=self.limit)
        measured = json.loads(usage.read_text().splitlines()[-1])
        if measured["code"]:
            lines = log.read_text(errors="replace").strip().splitlines()
            return Run("", failed=lines[-1][:200] if lines else f"exit code {measured['code']}")
        version = json.loads(output.with_suffix(".version.json").read_text())
        return Run("", version, round(measured["processor_seconds"], 1), peak)


def load_output(path: Path) -> ScoredPairs | np.ndarray:
    """Reads a finder's output: pairs, or groups int[L, N]."""
    with np.load(path) as arrays:
        return arrays["groups"] if "groups" in arrays else ScoredPairs(**arrays)


def run_key(finder: Finder, setting: str, image_set: ImageSet) -> str:
    """Returns a digest of the program, its setting and requirements, the images, and our package if used."""
    program = Path(__file__).parent / "programs" / f"{finder.program}.py"
    files = (program, Path(scored_pairs.__file__), image_set.folder / "truth.json")
    parts = [*map(file_sha256, files), setting, repr(finders.ENVIRONMENTS[finder.environment])]
    if finder.environment == finders.OURS:
        parts.append(str(code_version()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _started(
    command: list[str], log: Path, usage: Path, torch_home: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a command that writes to `log`, with an empty cache folder; at the end its processes are killed.

    `usage` gets what `benchmarks.resource_usage` measures.
    """
    with (
        tempfile.TemporaryDirectory(prefix="finder-") as cache,
        open(log, "w") as sink,
        open(usage, "w") as lines,
    ):
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "XDG_CACHE_HOME": cache,
            "TORCH_HOME": str(torch_home),
        }
        process = subprocess.Popen(
            measured_command(command),
            stdout=lines,
            stderr=sink,
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
