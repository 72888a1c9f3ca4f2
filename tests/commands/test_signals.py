"""Signals to the real scripts at random moments: none is lost, and a stopped run ends as one that never was.

pytest -m slow -n 0 -s tests/commands/test_signals.py prints the counts by phase.
"""

import collections
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.experiment import workdir
from jaxnets.io import atomic_write
from jaxnets.runtime.signals import NUMBERS

RECIPE = {
    "model.name": "lenet5",
    "model.kernel_size": 3,
    "data.image_size": 16,
    "data.num_examples": 180,
    "train.epochs": 60,
    "train.steps_per_execution": 1,
    "log.every_steps": 25,
    "checkpoint.every_steps": 40,
    "log.tensorboard": False,
}
BUG_MARKS = ("Traceback", "Exception ignored", "internal error", "leaked")
"""What standard error must not have."""
COMPILED_ANEW = "--compilation_cache=none"
LATE_SECONDS = 0.5
"""A process that exits with 0 within this time had ended already: the signal does not count."""
PROMPT_SECONDS = 5.0
"""What a signal that saves nothing may take on a machine that does other things too."""


@dataclasses.dataclass(frozen=True)
class ProcessResult:
    """How a process ended after a signal, and after which line of its output."""

    number: int
    code: int
    seconds: float
    after: str
    errors: str

    @property
    def faults(self) -> list[str]:
        """What is wrong with it."""
        bad = [text for text in BUG_MARKS if text in self.errors]
        if self.code != 128 + self.number:
            bad.append(f"exit code {self.code}")
        if "stopped" not in self.errors:
            bad.append("no line")
        return bad


class _Command:
    """A script that is restarted each time, in a session of its own, with its output in files."""

    def __init__(self, repository: Path, folder: Path, script: str, *arguments: str, as_shipped: bool = True):
        self.command = [sys.executable, str(repository / "scripts" / script), *arguments]
        self.folder = folder
        folder.mkdir(exist_ok=True)
        # Programs of the other tests are not optimised, and read from a cache.
        others = ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR") if as_shipped else ()
        self.environment = {k: v for k, v in os.environ.items() if k not in others}

    def lines(self) -> list[str]:
        return (self.folder / "out").read_text().splitlines()

    def start(self, *more: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as errors:
            process = subprocess.Popen(
                [*self.command, *more],
                stdout=out,
                stderr=errors,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,
            )
        while not _hears(process.pid, signal.SIGTERM):
            assert process.poll() is None
            time.sleep(0.001)
        return process

    def finish(self) -> None:
        with self.start() as process:
            assert process.wait(240) == 0, (self.folder / "err").read_text()

    def signal(self, number: int, *more: str, after: str, seconds: float) -> ProcessResult | None:
        """Sends a signal so long after a line that begins with a word, or the start; None if too late."""
        with self.start(*more) as process:
            while after and not any(line.startswith(after) for line in self.lines()):
                if process.poll() is not None:
                    return None
                time.sleep(0.005)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.001)
            if process.poll() is not None:
                return None
            lines, sent = self.lines(), time.monotonic()
            process.send_signal(number)
            code = process.wait(60)
            took = time.monotonic() - sent
        if code == 0 and took < LATE_SECONDS:
            return None
        last = lines[-1].split()[0] if lines else ""
        _wait_for_no_process(process.pid)
        return ProcessResult(number, code, took, last, (self.folder / "err").read_text())


def _hears(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: its script's first statement is done."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = next((line.split()[1] for line in status.splitlines() if "SigCgt" in line), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def _wait_for_no_process(session: int) -> None:
    """Asserts that soon no process of a session is left."""
    deadline = time.monotonic() + 10
    while subprocess.run(["pgrep", "--session", str(session)], capture_output=True).returncode == 0:
        assert time.monotonic() < deadline, "a process is still running"
        time.sleep(0.05)


class _Counts:
    """Endings by part; what is in the loop is told by its last line."""

    def __init__(self) -> None:
        self.endings: dict[str, list[ProcessResult]] = collections.defaultdict(list)
        self.late = 0

    def add(self, part: str, ending: ProcessResult | None) -> bool:
        """Counts an ending; False where the signal came too late."""
        if ending is None:
            self.late += 1
            return False
        name = f"{part}: saved" if "saved" in ending.errors else part
        self.endings[name].append(ending)
        print(name, ending, flush=True)
        return True

    def check(self) -> None:
        """Prints the table; asserts that there was no fault, and that what saves nothing ends soon."""
        print(f"{'':<28}{'TERM':>6}{'INT':>6}{'HUP':>6}{'faults':>8}{'longest':>9}")
        for name, found in self.endings.items():
            each = "".join(f"{sum(e.number == n for e in found):>6}" for n in (15, 2, 1))
            longest = max(ending.seconds for ending in found)
            faults = sum(bool(ending.faults) for ending in found)
            print(f"{name:<28}{each}{faults:>8}{longest:>7.2f} s")
        print(f"{self.late} came after the end")
        for name, found in self.endings.items():
            assert not [ending for ending in found if ending.faults]
            assert name.endswith("saved") or max(e.seconds for e in found) < PROMPT_SECONDS


def _trainer(repository: Path, folder: Path, data: Path, *, as_shipped: bool = True) -> _Command:
    return _Command(
        repository,
        folder,
        "train.py",
        f"--config={repository}/configs/lung_resnet.py:smoke",
        f"--workdir={folder / 'run'}",
        f"--config.data.root={data}",
        *([f"--compilation_cache={data / 'compiled'}"] if as_shipped else []),
        *(f"--config.{name}={value}" for name, value in RECIPE.items()),
        as_shipped=as_shipped,
    )


def _timeline(command: _Command, *more: str) -> dict[str, float]:
    """Seconds from the start to the first line of each word, and to the end."""
    seen: dict[str, float] = {}
    with command.start(*more) as process:
        start = time.monotonic()
        while process.poll() is None:
            for line in command.lines():
                seen.setdefault(line.split()[0] if line.split() else "", time.monotonic() - start)
            time.sleep(0.005)
        assert process.returncode == 0, (command.folder / "err").read_text()
        seen["end"] = time.monotonic() - start
    return seen


def _trained(run: Path) -> tuple[Any, ...]:
    """What must not depend on signals: every answer's bits, the results, the lines without their times."""
    times = ("images_per_second", "data_wait")
    result = json.loads((run / "result.json").read_text())
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    with np.load(run / "predictions" / "test.npz") as arrays:
        answers = {name: arrays[name].tobytes() for name in arrays.files}
    return (
        answers,
        result["tests"],
        result["train_accuracy"],
        [{name: v for name, v in line.items() if name not in times} for line in lines],
    )


def _numbers() -> Iterator[int]:
    while True:
        yield from NUMBERS


@dataclasses.dataclass(frozen=True)
class _Straight:
    """A run that no signal stopped, and the seconds at which each of its lines came."""

    command: _Command
    data: Path
    seen: dict[str, float]


@pytest.fixture(scope="module")
def straight(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> _Straight:
    folder = tmp_path_factory.mktemp("straight")
    command = _trainer(repository, folder / "straight", folder / "data")
    seen = _timeline(command, COMPILED_ANEW)
    print({name: round(seconds, 2) for name, seconds in seen.items()})
    return _Straight(command, folder / "data", seen)


WINDOWS = {
    "start, import": ("", "", "data", 24),
    "cache": ("data", "data", "leakage", 10),
    "compile": ("leakage", "leakage", "compile", 14),
    "loop": ("compile", "compile", "end", 20),
    "evaluate, finish": ("resume", "resume", "end", 12),
}
"""Parts of training: after which line signals come, the two lines that it lies between, and how many."""


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("part", WINDOWS)
def test_signals_in_training(repository: Path, tmp_path: Path, straight: _Straight, part: str) -> None:
    """Those that came in the loop are resumed, again and again; the run ends as the straight one did."""
    moments, numbers, counts = random.Random(part), _numbers(), _Counts()
    stopped = _trainer(repository, tmp_path, straight.data)
    run, seen = tmp_path / "run", {"": 0.0, **straight.seen}
    if part == "evaluate, finish":
        _train_to_the_last_save(stopped, run)
        seen |= _timeline(stopped)
    after, start, end, wanted = WINDOWS[part]
    more = [COMPILED_ANEW] if part == "compile" else []
    done = 0
    while done < wanted:
        if part == "cache":
            shutil.rmtree(straight.data / "cache", ignore_errors=True)
        if part == "evaluate, finish":
            _train_to_the_last_save(stopped, run)
        elif (run / "result.json").exists():
            _check_same(stopped, straight.command)
            shutil.rmtree(run)
        seconds = moments.uniform(0, seen[end] - seen[start])
        done += counts.add(part, stopped.signal(next(numbers), *more, after=after, seconds=seconds))
    _check_same(stopped, straight.command)
    counts.check()


def _train_to_the_last_save(command: _Command, run: Path) -> None:
    """A run that is trained and not yet scored: what it does next is to evaluate and to finish."""
    if not (run / "result.json").exists():
        command.finish()
    (run / "result.json").unlink()
    hashes = workdir.read_hashes(run)
    assert hashes is not None
    # As the list is when the result is about to be written.
    expected = {**hashes, "result.json": [None, *hashes["result.json"]]}
    atomic_write(run / workdir.CHECKSUMS, workdir._to_json(expected, []))


def _check_same(stopped: _Command, straight: _Command) -> None:
    stopped.finish()
    assert _trained(stopped.folder / "run") == _trained(straight.folder / "run")


OTHERS = {
    "predict": ("predict.py", "--workdir={run}", "{images}", "--csv=table.csv"),
    "evaluate": ("evaluate.py", "--workdir={run}"),
    "find_duplicates": ("find_duplicates.py", "{images}", "--workers=2", "--out=groups.csv"),
    "reproduce": ("reproduce.py", "{table}"),
}


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("name", OTHERS)
def test_signals_in_other_commands(repository: Path, tmp_path: Path, straight: _Straight, name: str) -> None:
    moments, numbers, counts = random.Random(name), _numbers(), _Counts()
    places = {"run": straight.command.folder / "run", "images": tmp_path / "images"}
    _draw(places["images"], 200)
    places["table"] = tmp_path / "table.py"
    config = f"{repository}/configs/lung_resnet.py:smoke"
    row = {"config": config, "overrides": {**RECIPE, "data.root": str(straight.data)}}
    places["table"].write_text(f"def get_rows():\n    return [{row!r}]\n")
    script, *arguments = (word.format(**places) for word in OTHERS[name])
    command = _Command(repository, tmp_path / name, script, *arguments)
    _link_scripts(command, repository)
    seconds = _timeline(command)["end"]
    done = 0
    while done < 8:
        shutil.rmtree(command.folder)
        command.folder.mkdir()
        _link_scripts(command, repository)
        ending = command.signal(next(numbers), after="", seconds=moments.uniform(0, seconds))
        done += counts.add(name, ending)
    command.finish()
    counts.check()


def _link_scripts(command: _Command, repository: Path) -> None:
    """Puts scripts/ where the command runs: reproduce.py starts scripts/train.py."""
    (command.folder / "scripts").symlink_to(repository / "scripts")


def _draw(folder: Path, count: int) -> None:
    source = SyntheticTissue(count, 48)
    folder.mkdir()
    for index in range(count):
        Image.fromarray(np.asarray(source[index]["image"])).save(folder / f"{index}.png")


@pytest.mark.parametrize(
    ("script", "number"),
    [("train.py", 15), ("predict.py", 2), ("find_duplicates.py", 1)],
)
def test_a_script_that_starts_is_ended(repository: Path, tmp_path: Path, script: str, number: int) -> None:
    moments = random.Random(script)
    command = _Command(repository, tmp_path, script, f"--workdir={tmp_path / 'run'}", "x", as_shipped=False)
    ending = command.signal(number, after="", seconds=moments.uniform(0, 0.1))
    assert ending is not None
    assert not ending.faults, ending
    assert ending.seconds < PROMPT_SECONDS


def test_a_run_is_ended_as_it_compiles_and_saved_as_it_trains(repository: Path, tmp_path: Path) -> None:
    command = _trainer(repository, tmp_path / "one", tmp_path / "data", as_shipped=False)
    compiling = command.signal(signal.SIGTERM, after="leakage", seconds=0.1)
    assert compiling is not None
    assert not compiling.faults, compiling
    assert compiling.seconds < PROMPT_SECONDS
    assert not list((command.folder / "run").glob("checkpoints/*"))
    training = command.signal(signal.SIGHUP, after="train", seconds=0)
    assert training is not None
    assert not training.faults, training
    assert "saved" in training.errors
    assert list((command.folder / "run").glob("checkpoints/*/manifest.json"))


SLOW_SAVE = """
from jaxnets.runtime import signals
signals.install()
import json, sys, time
import jaxnets
from jaxnets.commands import runner
from jaxnets.training import checkpoint

write, manifests = checkpoint.atomic_write, []

def slow(path, text):
    if path.name == checkpoint.MANIFEST:
        manifests.append(path)
        if len(manifests) == 2:
            print("save 2", flush=True)
            time.sleep(4)
    write(path, text)

checkpoint.atomic_write = slow
spec, overrides, workdir = json.loads(sys.argv.pop())
runner.execute(lambda _: jaxnets.train(spec, overrides, workdir=workdir))
"""


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_inside_a_save(repository: Path, tmp_path: Path, signals: int) -> None:
    """The save ends; a second signal ends the process at once, and the previous save stays valid."""
    straight = _trainer(repository, tmp_path / "straight", tmp_path / "data", as_shipped=False)
    straight.finish()
    stopped = _trainer(repository, tmp_path / "stopped", tmp_path / "data", as_shipped=False)
    spec = f"{repository}/configs/lung_resnet.py:smoke"
    overrides = {**RECIPE, "data.root": str(tmp_path / "data")}
    arguments = json.dumps([spec, overrides, str(stopped.folder / "run")])
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_SAVE, arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert any(line.startswith("save 2") for line in process.stdout)
    before, start = _saved(stopped), time.monotonic()
    process.send_signal(signal.SIGTERM)
    if signals == 2:
        time.sleep(0.6)
        process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    took = time.monotonic() - start
    assert process.returncode == 143, errors
    if signals == 1:
        assert f"stopped at step {_saved(stopped)}, saved" in errors
        assert _saved(stopped) > before
    else:
        assert errors == "-c: stopped by SIGTERM\n"
        assert took < 3  # the save would have taken longer
        assert _saved(stopped) == before
    _check_same(stopped, straight)


def _saved(command: _Command) -> int:
    """The newest step that is saved."""
    folders = (command.folder / "run").glob("checkpoints/*/manifest.json")
    return max(int(path.parent.name) for path in folders)
