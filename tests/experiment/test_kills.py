"""A run that is killed at any moment resumes bit-exactly.

Unlike the rest of the suite, the slow tests compile with all optimizations.
"""

import collections
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jaxnets.training.checkpoint import MANIFEST

LENET = {
    "model.name": "lenet5",
    "model.kernel_size": 3,
    "data.image_size": 16,
    "data.num_examples": 180,
    "train.epochs": 12,
    "checkpoint.every_steps": 3,
    "log.every_steps": 4,
    "log.tensorboard": False,
}
NARROW_RESNET = {
    "model.width": 4,
    "model.dropout": 0.3,
    "data.image_size": 32,
    "data.num_examples": 120,
    "data.cache": False,
    "data.threads": 2,
    "augment.rotation_degrees": 20.0,
    "augment.stain": 0.2,
    "augment.mixup": 0.2,
    "optimizer.name": "adam",
    "optimizer.learning_rate": 0.003,
    "train.ema_decay": 0.95,
    "train.epochs": 12,
    "train.drop_last": False,
    "plateau.patience": 1,
    "plateau.factor": 0.5,
    "eval.every_steps": 4,
    "checkpoint.every_steps": 3,
    "log.every_steps": 5,
}
OPTIMIZED = {
    "XLA_FLAGS": " ".join(
        flag
        for flag in os.environ.get("XLA_FLAGS", "").split()
        if not flag.startswith("--xla_backend_optimization_level")
    )
}
TIMING = ("images_per_second", "data_wait", "seconds", "interval_seconds", "waited")


class _Trial:
    """A config that is trained in processes that may be killed."""

    def __init__(
        self,
        repository: Path,
        overrides: dict[str, Any],
        workdir: Path,
        data: Path,
        environment: dict[str, str] = OPTIMIZED,
    ):
        self.workdir = workdir
        self._environment = os.environ | environment
        self._command = [
            sys.executable,
            str(repository / "scripts" / "train.py"),
            f"--config={repository}/configs/lung_resnet.py:smoke",
            f"--workdir={workdir}",
            f"--config.data.root={data}",
            "--nokernels",
            *(f"--config.{name}={value}" for name, value in overrides.items()),
        ]

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(self) -> None:
        with self.start() as process:
            message, _ = process.communicate(timeout=240)
        assert process.returncode == 0, message

    def finished(self) -> bool:
        return (self.workdir / "result.json").exists()

    def saving(self) -> bool:
        """True while a checkpoint is being written."""
        folders = (self.workdir / "checkpoints").glob("[0-9]*")
        return any(not (folder / MANIFEST).exists() for folder in folders)

    def newest(self) -> int:
        return max((int(p.parent.name) for p in self.workdir.glob(f"checkpoints/*/{MANIFEST}")), default=0)

    def events(self) -> tuple[int, int, int]:
        """The number of values in metrics.jsonl, of those missing in TensorBoard, and of duplicates there."""
        reader = EventAccumulator(str(self.workdir / "tensorboard"), size_guidance={"scalars": 0})
        reader.Reload()
        shown = collections.Counter(
            (tag, event.step, event.value)
            for tag in reader.Tags()["scalars"]
            for event in reader.Scalars(tag)
        )
        lines = map(json.loads, (self.workdir / "metrics.jsonl").read_text().splitlines())
        logged = {
            (f"{line['split']}/{name}", line["step"], float(np.float32(value)))
            for line in lines
            for name, value in line["values"].items()
        }
        return len(logged), len(logged - shown.keys()), sum(count > 1 for count in shown.values())

    def outcome(self) -> tuple[Any, ...]:
        """The last state, host state, metrics and result, without timings."""
        folder = self.workdir / "checkpoints" / f"{self.newest():010d}"
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            state = checkpointer.restore(folder / "state")
        host_state = json.loads((folder / "host_state.json").read_text())
        host_state["callbacks"].pop("MetricsLog")  # bytes of a file that holds timings
        lines = list(map(json.loads, (self.workdir / "metrics.jsonl").read_text().splitlines()))
        result = json.loads((self.workdir / "result.json").read_text())
        selected = {name: result[name] for name in ("tests", "train_accuracy", "validation_accuracy")}
        return state, *(_without_timings(part) for part in (host_state, lines, selected))


def _without_timings(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_timings(v) for k, v in value.items() if k not in TIMING}
    return [_without_timings(v) for v in value] if isinstance(value, list) else value


def _kill_often(trial: _Trial, kills: int, inside: int, seed: int) -> tuple[int, int]:
    """Kills `kills` processes, `inside` of them during a save, and returns both counts."""
    moments = random.Random(seed)
    done = in_save = 0
    while done < kills and not trial.finished():
        with trial.start() as process:
            before = trial.newest()
            # Let a few steps happen first, or no save would ever be reached again.
            while trial.newest() == before and process.poll() is None:
                if moments.random() < 0.0005:
                    break  # this one dies early: while it starts, compiles or takes its first steps
                time.sleep(0.005)
            wanted_in_save = in_save < inside
            deadline = time.monotonic() + (20 if wanted_in_save else moments.uniform(0, 0.5))
            hit = False
            while time.monotonic() < deadline and process.poll() is None:
                if wanted_in_save and trial.saving():
                    hit = True
                    break
                time.sleep(0.0005)
            process.send_signal(signal.SIGKILL)
        if process.returncode == -signal.SIGKILL:
            done += 1
            in_save += hit and trial.saving()
    return done, in_save


def _equal(first: Any, second: Any) -> bool:
    same = [True]

    def compare(a: Any, b: Any) -> None:
        same.append(np.asarray(a).tobytes() == np.asarray(b).tobytes())

    import jax

    jax.tree.map(compare, first, second)
    return all(same)


def _check(repository: Path, tmp_path: Path, overrides: dict[str, Any], kills: int, inside: int) -> None:
    straight = _Trial(repository, overrides, tmp_path / "straight", tmp_path / "data")
    straight.finish()
    killed = _Trial(repository, overrides, tmp_path / "killed", tmp_path / "data")
    done, in_save = _kill_often(killed, kills, inside, seed=0)
    killed.finish()
    assert done == kills, f"only {done} kills before it was finished: make the run longer"
    assert in_save >= inside
    for mine, expected in zip(killed.outcome(), straight.outcome(), strict=True):
        assert _equal(mine, expected)


STUCK_IN_A_SAVE = """
import json, sys, time
import jaxnets
from jaxnets.training import checkpoint

write, manifests = checkpoint.atomic_write, []

def stuck(path, text):
    if path.name == checkpoint.MANIFEST:
        manifests.append(path)
    if len(manifests) == 2:
        print("in a save", flush=True)
        time.sleep(600)
    write(path, text)

checkpoint.atomic_write = stuck
spec, overrides, workdir = json.loads(sys.argv[1])
jaxnets.train(spec, overrides, workdir=workdir, kernels=False)
"""


def test_a_kill_during_a_save(repository: Path, smoke_config: str, tmp_path: Path) -> None:
    """The first process calls the library, the second is the script."""
    overrides = {
        **LENET,
        **{"train.epochs": 2, "log.every_steps": 1, "log.tensorboard": True},
        "data.root": str(tmp_path / "data"),
    }
    straight = _Trial(repository, overrides, tmp_path / "straight", tmp_path / "data", {})
    killed = _Trial(repository, overrides, tmp_path / "killed", tmp_path / "data", {})
    message = json.dumps([smoke_config, overrides, str(killed.workdir)])
    command = [sys.executable, "-c", STUCK_IN_A_SAVE, message]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line.startswith("in a save") for line in process.stdout)
        process.kill()
    assert killed.saving()
    assert killed.newest() == LENET["checkpoint.every_steps"]
    for trial in (killed, straight):
        trial.finish()
    assert killed.newest() > 2 * LENET["checkpoint.every_steps"]
    logged, lost, doubled = killed.events()
    assert logged > 0
    assert (lost, doubled) == (0, 0)
    for mine, expected in zip(killed.outcome(), straight.outcome(), strict=True):
        assert _equal(mine, expected)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "overrides",
    [{**LENET, "train.epochs": 60}, {**NARROW_RESNET, "train.epochs": 40}],
    ids=["lenet5", "narrow_resnet"],
)
def test_twenty_kills_five_during_a_save(repository: Path, tmp_path: Path, overrides: dict[str, Any]) -> None:
    _check(repository, tmp_path, overrides, kills=20, inside=6)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_thirty_kills_lose_no_tensorboard_event(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {**LENET, "train.epochs": 100, "log.tensorboard": True}
    trial = _Trial(repository, overrides, tmp_path / "killed", tmp_path / "data")
    done, in_save = _kill_often(trial, kills=30, inside=6, seed=1)
    trial.finish()
    logged, lost, doubled = trial.events()
    with capsys.disabled():
        print(f"\n{done} kills, {in_save} in a save: {logged} numbers, {lost} lost, {doubled} twice")
    assert done == 30
    assert (lost, doubled) == (0, 0)
