"""Signals at random moments: none is lost, and a resumed run equals an uninterrupted one.

pytest -m slow -n 0 -s tests/commands/test_signals.py prints the counts per phase.
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

OVERRIDES = {
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
"""Must not occur on standard error."""
NO_COMPILATION_CACHE = "--compilation_cache=none"
LATE_SECONDS = 0.5
"""If the process exits with 0 this soon, the signal came too late and is not counted."""
PROMPT_SECONDS = 5.0
"""Limit for an exit without a save, on a busy machine."""


@dataclasses.dataclass(frozen=True)
class ProcessResult:
    """How a process ended after a signal; `after` is the tag of its last output line."""

    number: int
    code: int
    seconds: float
    after: str
    errors: str

    @property
    def faults(self) -> list[str]:
        """The problems found, empty if none."""
        bad = [text for text in BUG_MARKS if text in self.errors]
        if self.code != 128 + self.number:
            bad.append(f"exit code {self.code}")
        if "stopped" not in self.errors:
            bad.append("no line")
        return bad


class _Command:
    """Runs a script in a new session, with its output in files."""

    def __init__(self, repository: Path, folder: Path, script: str, *arguments: str, as_shipped: bool = True):
        self.command = [sys.executable, str(repository / "scripts" / script), *arguments]
        self.folder = folder
        folder.mkdir(exist_ok=True)
        # The other tests compile without optimisation and with a shared cache.
        removed = ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR") if as_shipped else ()
        self.environment = {k: v for k, v in os.environ.items() if k not in removed}

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
        while not _handles(process.pid, signal.SIGTERM):
            assert process.poll() is None
            time.sleep(0.001)
        return process

    def finish(self) -> None:
        with self.start() as process:
            assert process.wait(240) == 0, (self.folder / "err").read_text()

    def signal(self, number: int, *more: str, after: str, seconds: float) -> ProcessResult | None:
        """Sends a signal `seconds` after the first line starting with `after`; None if too late.

        If `after` is empty, the time counts from the start.
        """
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
            elapsed = time.monotonic() - sent
        if code == 0 and elapsed < LATE_SECONDS:
            return None
        last = lines[-1].split()[0] if lines else ""
        _wait_for_no_process(process.pid)
        return ProcessResult(number, code, elapsed, last, (self.folder / "err").read_text())


def _handles(pid: int, number: int) -> bool:
    """Returns whether a process has installed its handler for a signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = next((line.split()[1] for line in status.splitlines() if "SigCgt" in line), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def _wait_for_no_process(session: int) -> None:
    """Waits until a session has no process; fails after 10 seconds."""
    deadline = time.monotonic() + 10
    while subprocess.run(["pgrep", "--session", str(session)], capture_output=True).returncode == 0:
        assert time.monotonic() < deadline, "a process is still running"
        time.sleep(0.05)


class _Results:
    """Process results by phase."""

    def __init__(self) -> None:
        self.by_phase: dict[str, list[ProcessResult]] = collections.defaultdict(list)
        self.late = 0

    def add(self, phase: str, result: ProcessResult | None) -> bool:
        """Adds a result; returns False if the signal came too late."""
        if result is None:
            self.late += 1
            return False
        name = f"{phase}: saved" if "saved" in result.errors else phase
        self.by_phase[name].append(result)
        print(name, result, flush=True)
        return True

    def check(self) -> None:
        """Prints a table; asserts no faults, and prompt exits if nothing was saved."""
        print(f"{'':<28}{'TERM':>6}{'INT':>6}{'HUP':>6}{'faults':>8}{'longest':>9}")
        for name, found in self.by_phase.items():
            each = "".join(f"{sum(e.number == n for e in found):>6}" for n in (15, 2, 1))
            longest = max(result.seconds for result in found)
            faults = sum(bool(result.faults) for result in found)
            print(f"{name:<28}{each}{faults:>8}{longest:>7.2f} s")
        print(f"{self.late} came after the end")
        for name, found in self.by_phase.items():
            assert not [result for result in found if result.faults]
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
        *(f"--config.{name}={value}" for name, value in OVERRIDES.items()),
        as_shipped=as_shipped,
    )


def _timeline(command: _Command, *more: str) -> dict[str, float]:
    """Returns the seconds from the start to the first line with each tag, and to the end."""
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


def _reproducible_outputs(run: Path) -> tuple[Any, ...]:
    """Returns the predictions' bytes, the results and the metrics without timings."""
    times = ("images_per_second", "data_wait")
    result = json.loads((run / "result.json").read_text())
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    with np.load(run / "predictions" / "test.npz") as arrays:
        predictions = {name: arrays[name].tobytes() for name in arrays.files}
    return (
        predictions,
        result["tests"],
        result["train_accuracy"],
        [{name: v for name, v in line.items() if name not in times} for line in lines],
    )


def _numbers() -> Iterator[int]:
    while True:
        yield from NUMBERS


@dataclasses.dataclass(frozen=True)
class _Uninterrupted:
    """A run without signals, and the seconds until each line."""

    command: _Command
    data: Path
    seen: dict[str, float]


@pytest.fixture(scope="module")
def uninterrupted(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> _Uninterrupted:
    folder = tmp_path_factory.mktemp("uninterrupted")
    command = _trainer(repository, folder / "uninterrupted", folder / "data")
    seen = _timeline(command, NO_COMPILATION_CACHE)
    print({name: round(seconds, 2) for name, seconds in seen.items()})
    return _Uninterrupted(command, folder / "data", seen)


WINDOWS = {
    "start, import": ("", "", "data", 24),
    "cache": ("data", "data", "leakage", 10),
    "compile": ("leakage", "leakage", "compile", 14),
    "loop": ("compile", "compile", "end", 20),
    "evaluate, finish": ("resume", "resume", "end", 12),
}
"""Phases of training: the line to wait for, the first and last line of the phase, the number of signals."""


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("phase", WINDOWS)
def test_signals_in_training(
    repository: Path, tmp_path: Path, uninterrupted: _Uninterrupted, phase: str
) -> None:
    """Every interrupted run is resumed and gives the results of the uninterrupted one."""
    moments, numbers, results = random.Random(phase), _numbers(), _Results()
    stopped = _trainer(repository, tmp_path, uninterrupted.data)
    run, seen = tmp_path / "run", {"": 0.0, **uninterrupted.seen}
    if phase == "evaluate, finish":
        _train_to_the_last_save(stopped, run)
        seen |= _timeline(stopped)
    after, start, end, count = WINDOWS[phase]
    more = [NO_COMPILATION_CACHE] if phase == "compile" else []
    done = 0
    while done < count:
        if phase == "cache":
            shutil.rmtree(uninterrupted.data / "cache", ignore_errors=True)
        if phase == "evaluate, finish":
            _train_to_the_last_save(stopped, run)
        elif (run / "result.json").exists():
            _check_same(stopped, uninterrupted.command)
            shutil.rmtree(run)
        seconds = moments.uniform(0, seen[end] - seen[start])
        done += results.add(phase, stopped.signal(next(numbers), *more, after=after, seconds=seconds))
    _check_same(stopped, uninterrupted.command)
    results.check()


def _train_to_the_last_save(command: _Command, run: Path) -> None:
    """Brings a run to the state after its last save and before its evaluation."""
    if not (run / "result.json").exists():
        command.finish()
    (run / "result.json").unlink()
    hashes = workdir.read_hashes(run)
    assert hashes is not None
    # As listed just before result.json is written.
    expected = {**hashes, "result.json": [None, *hashes["result.json"]]}
    atomic_write(run / workdir.CHECKSUMS, workdir._to_json(expected))


def _check_same(stopped: _Command, uninterrupted: _Command) -> None:
    stopped.finish()
    assert _reproducible_outputs(stopped.folder / "run") == _reproducible_outputs(
        uninterrupted.folder / "run"
    )


COMMANDS = {
    "predict": ("predict.py", "--workdir={run}", "{images}", "--csv=table.csv"),
    "evaluate": ("evaluate.py", "--workdir={run}"),
    "find_duplicates": ("find_duplicates.py", "{images}", "--workers=2", "--out=groups.csv"),
    "reproduce": ("reproduce.py", "{table}"),
}


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("name", COMMANDS)
def test_signals_in_other_commands(
    repository: Path, tmp_path: Path, uninterrupted: _Uninterrupted, name: str
) -> None:
    moments, numbers, results = random.Random(name), _numbers(), _Results()
    places = {"run": uninterrupted.command.folder / "run", "images": tmp_path / "images"}
    _draw(places["images"], 200)
    places["table"] = tmp_path / "table.py"
    config = f"{repository}/configs/lung_resnet.py:smoke"
    row = {"config": config, "overrides": {**OVERRIDES, "data.root": str(uninterrupted.data)}}
    places["table"].write_text(f"def get_rows():\n    return [{row!r}]\n")
    script, *arguments = (word.format(**places) for word in COMMANDS[name])
    command = _Command(repository, tmp_path / name, script, *arguments)
    _link_scripts(command, repository)
    seconds = _timeline(command)["end"]
    done = 0
    while done < 8:
        shutil.rmtree(command.folder)
        command.folder.mkdir()
        _link_scripts(command, repository)
        ending = command.signal(next(numbers), after="", seconds=moments.uniform(0, seconds))
        done += results.add(name, ending)
    command.finish()
    results.check()


def _link_scripts(command: _Command, repository: Path) -> None:
    """Links scripts/ into the working folder: reproduce.py runs scripts/train.py there."""
    (command.folder / "scripts").symlink_to(repository / "scripts")


def _draw(folder: Path, count: int) -> None:
    source = SyntheticTissue(count, 48)
    folder.mkdir()
    for index in range(count):
        Image.fromarray(np.asarray(source[index]["image"])).save(folder / f"{index}.png")


@pytest.mark.parametrize(
    ("script", "number"), [("train.py", 15), ("predict.py", 2), ("find_duplicates.py", 1)]
)
def test_signal_during_startup_stops_a_script(
    repository: Path, tmp_path: Path, script: str, number: int
) -> None:
    moments = random.Random(script)
    command = _Command(repository, tmp_path, script, f"--workdir={tmp_path / 'run'}", "x", as_shipped=False)
    ending = command.signal(number, after="", seconds=moments.uniform(0, 0.1))
    assert ending is not None
    assert not ending.faults, ending
    assert ending.seconds < PROMPT_SECONDS


def test_signal_stops_compilation_and_saves_training(repository: Path, tmp_path: Path) -> None:
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
config_path, overrides, workdir = json.loads(sys.argv.pop())
runner.execute(lambda _: jaxnets.train(config_path, overrides, workdir=workdir))
"""


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_signal_during_a_save(repository: Path, tmp_path: Path, signals: int) -> None:
    """The save is finished; a second signal exits at once and the previous save stays valid."""
    uninterrupted = _trainer(repository, tmp_path / "uninterrupted", tmp_path / "data", as_shipped=False)
    uninterrupted.finish()
    stopped = _trainer(repository, tmp_path / "stopped", tmp_path / "data", as_shipped=False)
    config_path = f"{repository}/configs/lung_resnet.py:smoke"
    overrides = {**OVERRIDES, "data.root": str(tmp_path / "data")}
    arguments = json.dumps([config_path, overrides, str(stopped.folder / "run")])
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_SAVE, arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert any(line.startswith("save 2") for line in process.stdout)
    before, start = _latest_saved_step(stopped), time.monotonic()
    process.send_signal(signal.SIGTERM)
    if signals == 2:
        time.sleep(0.6)
        process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    elapsed = time.monotonic() - start
    assert process.returncode == 143, errors
    if signals == 1:
        assert f"stopped at step {_latest_saved_step(stopped)}, saved" in errors
        assert _latest_saved_step(stopped) > before
    else:
        assert errors == "-c: stopped by SIGTERM\n"
        assert elapsed < 3  # the save takes longer
        assert _latest_saved_step(stopped) == before
    _check_same(stopped, uninterrupted)


def _latest_saved_step(command: _Command) -> int:
    """Returns the latest saved step."""
    folders = (command.folder / "run").glob("checkpoints/*/manifest.json")
    return max(int(path.parent.name) for path in folders)
