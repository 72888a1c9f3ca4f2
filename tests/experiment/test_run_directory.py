"""Opening and writing run directories: damage, kills and locks."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from training_runs import SignalAfterStep

import jaxnets
from jaxnets.commands import evaluate, export, predict
from jaxnets.errors import CheckpointError, ConfigError, InterruptedRunError, MachineError
from jaxnets.experiment import restore, workdir
from jaxnets.experiment.run_directory import open_run, open_run_if_exists
from jaxnets.experiment.workdir import CHECKSUMS
from jaxnets.io import atomic_write
from studies import compare, compare_activations, stain_shift

FILES = ("checksums.json", "config.json", "manifest.json", "split.csv", "result.json")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of a finished run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _commands(run: Path, other: Path, config: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Every way to open a run directory, by name; each takes `ignore_damage`."""
    image, out = other.parent / "image.png", other.parent / "out"
    Image.new("RGB", (16, 16)).save(image)
    transfer = {**overrides, "transfer.weights": str(run), "train.epochs": 1}
    calls: dict[str, Callable[..., Any]] = {
        "train": lambda **given: jaxnets.train(config, overrides, workdir=run, **given),
        "transfer": lambda **given: jaxnets.train(config, transfer, workdir=other, **given),
        "evaluate": lambda **given: evaluate.evaluate(run, **given),
        "against": lambda **given: evaluate.compare_runs(run, run, **given),
        "predict": lambda **given: predict.predict_files(str(run), [str(image)], **given),
        "export": lambda **given: export.export(run, out, **given),
        "shift": lambda **given: stain_shift.stain_shift(run, **given),
        "compare": lambda **given: compare.print_runs([run], **given),
        "activations": lambda **given: compare_activations.compare_activations(run, run, **given),
        "weights": lambda **given: restore.read_weights_or_run(run, **given),
    }
    return calls


@pytest.mark.parametrize("file", FILES)
def test_every_command_raises_for_a_flipped_bit(
    run: Path, smoke_config: str, smoke_overrides: dict, tmp_path: Path, file: str
) -> None:
    _flip(run / file)
    for name, call in _commands(run, tmp_path / "x", smoke_config, smoke_overrides).items():
        with pytest.raises(CheckpointError) as caught:
            call()
        assert file in str(caught.value), name
        usable = file in (
            "checksums.json",
            "manifest.json",
            "split.csv",
        )  # the others cannot be read with that bit
        assert ("--ignore_damage" in str(caught.value)) is usable, name
        assert "\n" not in str(caught.value), name
    with pytest.raises(CheckpointError, match=file):
        jaxnets.load(run)


@pytest.mark.parametrize("damage", ["manifest.json has changed since", "checksums.json is missing"])
def test_every_command_continues_with_one_warning(
    run: Path,
    smoke_config: str,
    smoke_overrides: dict,
    tmp_path: Path,
    damage: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if damage.startswith("manifest"):  # another value, which can be used
        path = run / "manifest.json"
        path.write_text(path.read_text().replace('"data": "', '"data": "another '))
    else:
        (run / CHECKSUMS).unlink()
    with pytest.raises(CheckpointError, match=f"{damage}.*--ignore_damage"):
        open_run(run)
    for name, call in _commands(run, tmp_path / "x", smoke_config, smoke_overrides).items():
        capsys.readouterr()
        call(ignore_damage=True)
        warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
        opened = 2 if name in ("against", "activations") else 1
        assert len([line for line in warnings if damage in line]) == opened, name
    with pytest.warns(UserWarning, match=damage):
        jaxnets.load(run, ignore_damage=True)


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        *sections, name = path.split(".")
        for section in sections:
            content = content[section]
        content[name] = value

    return change


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", _set("data.std", [0.0, 0.5, 0.5])),
        ("config.json", _set("data.mean", [float("nan"), 0.5, 0.5])),
        ("config.json", _set("data.mean", [0.5, 0.5])),
        ("config.json", _set("data.image_size", 17)),
        ("config.json", _set("data.image_size", 7)),
        ("config.json", _set("data.resize", "nonsense")),
        ("config.json", _set("model.activation", "nonsense")),
        ("config.json", _set("model.name", "lenet6")),
        ("config.json", _set("model.num_classes", 4)),
        ("config.json", _set("seed", True)),
        ("config.json", _set("data", None)),
        ("config.json", lambda content: content.update(more=1)),
        ("manifest.json", _set("classes", ["a", "b"])),
        ("manifest.json", _set("classes", ["a", "b", "b"])),
        ("manifest.json", lambda content: content.pop("classes")),
        ("manifest.json", lambda content: content.pop("input_shape")),
        ("manifest.json", _set("input_shape", "16")),
        ("manifest.json", _set("input_shape", [-16, -16, 3])),
        ("manifest.json", _set("input_shape", [16, 16, 0])),
        ("manifest.json", _set("input_shape", [10**400, 16, 3])),
        ("result.json", lambda content: content.pop("step")),
        ("result.json", _set("step", "4")),
        ("result.json", _set("test_accuracy", 0.5)),
        ("result.json", _set("test_accuracy", float("nan"))),
        ("result.json", _set("tests.clean.accuracy", 1.5)),
        ("result.json", _set("tests.clean.confusion", [[9]])),
        ("result.json", _set("seed", 1)),
    ],
)
def test_invalid_values_raise_without_checksums(
    run: Path, file: str, change: Callable[[dict[str, Any]], None]
) -> None:
    (run / CHECKSUMS).unlink()
    content = json.loads((run / file).read_text())
    change(content)
    (run / file).write_text(json.dumps(content))
    with pytest.raises(
        CheckpointError, match=r"(config|manifest|result)\.json (is damaged|has the network)"
    ) as caught:
        open_run(run, ignore_damage=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["config.json", "result.json", "checksums.json", "split.csv"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "loop"])
def test_special_files_raise_without_blocking(run: Path, file: str, kind: str) -> None:
    path = run / file
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    for ignore_damage in (False, True):
        if ignore_damage and file == CHECKSUMS:
            continue
        with pytest.raises(CheckpointError, match=file):
            open_run(run, ignore_damage=ignore_damage)


class _Killed(BaseException):
    """Like a kill: nothing catches it."""


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_between_two_writes_leaves_a_valid_directory(
    run: Path, number: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_run(run)
    assert before.result is not None
    result = json.dumps({**before.result, "note": "new"})
    predictions = before.predictions()
    assert predictions is not None
    contents = {
        "predictions/validation.npz": predictions.to_bytes(),
        "predictions/test.npz": predictions.to_bytes() + b"\0",
        "result.json": result,
    }
    calls = []

    def killed(path: Path, content: str | bytes) -> None:
        calls.append(path)
        if len(calls) == number + 1 and not after:
            raise _Killed
        atomic_write(path, content)
        if len(calls) == number + 1:
            raise _Killed

    monkeypatch.setattr(workdir, "atomic_write", killed)
    with pytest.raises(_Killed):
        workdir.write_files(run, contents)
    monkeypatch.undo()
    left = open_run(run)
    assert left.warnings == ()
    assert left.result is not None
    assert left.result["note"] == ("new" if len(calls) + after > 4 else before.result["note"])
    left.predictions()
    left.predictions("validation")
    workdir.write_files(run, contents)
    assert open_run(run).result == json.loads(result)
    hashes = workdir.read_hashes(run) or {}
    assert all(len(allowed) == 1 for allowed in hashes.values())


def test_a_kill_before_the_first_file_leaves_no_run(tmp_path: Path, trained: Path) -> None:
    contents = {name: (trained / name).read_bytes() for name in ("config.json", "split.csv")}
    workdir.write_files(tmp_path, contents)
    for name in contents:
        (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match="config.json is missing"):
        open_run_if_exists(tmp_path)
    both = {name: [None, "0" * 64] for name in contents}
    (tmp_path / CHECKSUMS).write_text(workdir._to_json(both))
    assert open_run_if_exists(tmp_path) is None


def test_a_finished_run_needs_no_lock(
    run: Path,
    smoke_config: str,
    smoke_overrides: dict,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Works on a read-only file system."""
    (run / workdir.CHECKSUMS_LOCK).unlink()
    assert not (run / ".lock").exists()
    before = sorted(run.rglob("*"))
    times = [path.stat().st_mtime_ns for path in (run, *before)]
    jaxnets.train(smoke_config, smoke_overrides, workdir=run)
    assert "test accuracy" in capsys.readouterr().out
    assert sorted(run.rglob("*")) == before
    assert [path.stat().st_mtime_ns for path in (run, *before)] == times


def _metrics_of(run: Path) -> list[tuple[int, str]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["split"]) for line in lines]


def test_truncated_or_changed_metrics_raise_before_training(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {**smoke_overrides, "log.every_steps": 1}
    stopped = tmp_path / "stopped"
    with pytest.raises(InterruptedRunError):
        jaxnets.train(smoke_config, overrides, workdir=stopped, callbacks=[SignalAfterStep(3)])
    data = (stopped / "metrics.jsonl").read_bytes()
    changes = {
        "shorter": data[: len(data) // 2],
        "empty": b"",
        "flipped": bytes([data[0] ^ 1]) + data[1:],
        "not UTF-8": data[:-20] + b"\xff" + data[-19:],
    }
    for name, changed in changes.items():
        run = shutil.copytree(stopped, tmp_path / name)
        (run / "metrics.jsonl").write_bytes(changed)
        with pytest.raises(CheckpointError, match=r"metrics.jsonl .*--ignore_damage"):
            jaxnets.train(smoke_config, overrides, workdir=run)
        capsys.readouterr()
        result = jaxnets.train(smoke_config, overrides, workdir=run, ignore_damage=True)
        assert "metrics.jsonl" in capsys.readouterr().err
        assert result["images_per_second"] is not None
        assert result["images_per_second"] > 0
        assert open_run(run).warnings == ()
    shutil.rmtree(tmp_path / "empty" / "checkpoints")
    longer = shutil.copytree(stopped, tmp_path / "longer")
    (longer / "metrics.jsonl").write_bytes(data + data[-50:])  # written after the checkpoint
    jaxnets.train(smoke_config, overrides, workdir=longer)
    jaxnets.train(smoke_config, overrides, workdir=stopped)
    assert _metrics_of(longer) == _metrics_of(stopped)


def test_changed_predictions_raise(run: Path) -> None:
    path = run / "predictions" / "test.npz"
    predictions = open_run(run).predictions()
    assert predictions is not None
    changed = np.array(predictions.probabilities)
    changed[0] = changed[0][::-1]
    path.write_bytes(type(predictions)(**{**vars(predictions), "probabilities": changed}).to_bytes())
    with pytest.raises(CheckpointError, match=r"test.npz has changed"):
        open_run(run).predictions()
    path.unlink()
    with pytest.raises(CheckpointError, match=r"test.npz is missing"):
        evaluate.compare_runs(run, run)


def test_evaluation_lists_its_files(run: Path) -> None:
    evaluate.evaluate(run, part="validation")
    hashes = workdir.read_hashes(run) or {}
    assert "predictions/validation.npz" in hashes
    assert open_run(run).predictions("validation") is not None
    _flip(run / "predictions" / "validation.npz")
    with pytest.raises(CheckpointError, match="validation.npz has changed"):
        open_run(run).predictions("validation")


def test_evaluation_of_another_step_does_not_replace_the_predictions(run: Path) -> None:
    before = (run / "predictions" / "test.npz").read_bytes()
    result = json.loads((run / "result.json").read_text())
    *_, tested = sorted((run / "checkpoints").iterdir())
    assert int(tested.name) == result["step"]
    _flip(tested / "host_state.json")
    measured = evaluate.evaluate(run, ignore_damage=True)
    assert measured["step"] < result["step"]
    assert (run / "predictions" / "test.npz").read_bytes() == before


def test_evaluation_needs_a_writable_directory(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(run.rglob("*"))
    monkeypatch.setattr(evaluate.os, "access", lambda path, mode: Path(path) != run)
    with pytest.raises(MachineError, match=r"is not writable: evaluate a copy of it") as raised:
        evaluate.evaluate(run)
    assert raised.value.exit_code == 6
    assert sorted(run.rglob("*")) == before


def test_a_file_is_not_a_run_directory(smoke_config: str, smoke_overrides: dict, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("notes\n")
    with pytest.raises(ConfigError, match=r"notes.txt is a file, not a directory.*--workdir"):
        jaxnets.train(smoke_config, smoke_overrides, workdir=file)
    with pytest.raises(ConfigError, match="choose another --work$"), workdir.lock_workdir(file, "--work"):
        pass
    assert file.read_text() == "notes\n"


def test_a_run_directory_is_not_inside_the_images(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path
) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (16, 16)).save(tmp_path / name / f"{number}.png")
    overrides = {"data.name": "image_folder", "data.path": str(tmp_path)}
    config = smoke_config.replace("lung_resnet.py:smoke", "image_folder.py:scratch")
    with pytest.raises(ConfigError, match=r"is inside --config.data.path.*outside the image folder"):
        jaxnets.train(config, overrides, workdir=tmp_path / "cat" / "run")
    assert not (tmp_path / "cat" / "run").exists()


def test_damaged_checksums_are_not_replaced(run: Path) -> None:
    (run / CHECKSUMS).unlink()
    evaluate.evaluate(run, part="validation", ignore_damage=True)
    assert (run / "predictions" / "validation.npz").exists()
    with pytest.raises(CheckpointError, match=r"checksums.json is missing"):
        open_run(run)


def test_checksums_have_their_documented_format(tmp_path: Path) -> None:
    files = {"config.json": ["0" * 64]}
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    content = {"schema_version": 1, "files": files, "sha256": digest}
    (tmp_path / CHECKSUMS).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    assert workdir.read_hashes(tmp_path) == files
