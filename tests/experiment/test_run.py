"""Training end to end, on a network that compiles in a second."""

import concurrent.futures
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import made_results
import numpy as np
import pytest
from PIL import Image
from training_runs import SignalAfterStep, read_metrics, send_signal

import jaxnets
from jaxnets import config as config_lib
from jaxnets.commands.evaluate import evaluate
from jaxnets.data.dataset import IndexBatches, TrainBatches
from jaxnets.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    InterruptedRunError,
    MachineError,
)
from jaxnets.evaluation import result as results
from jaxnets.experiment import workdir
from jaxnets.experiment.resolve import load_config_or_demo as resolve
from jaxnets.runtime.signals import NUMBERS
from jaxnets.training.callbacks import Callback
from jaxnets.training.run import Run


def test_a_run_writes_its_files(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {"config.json", "manifest.json", "split.csv", "metrics.jsonl", "result.json"} <= names
    result = json.loads((trained / "result.json").read_text())
    assert results.check(result) is None
    assert result["step"] == 4
    assert result["trained_parameters"] == result["parameters"] > 0
    assert result["fold"] is None
    assert result["features_seconds"] is None  # nothing is frozen
    assert result["on_cached_features"] is False
    assert result["complete"] is True
    assert result["epochs"] == 2
    assert result["test_examples"] == 9
    assert np.sum(result["tests"]["clean"]["confusion"]) == 9
    manifest = json.loads((trained / "manifest.json").read_text())
    assert manifest["split_sha256"] == result["split_sha256"]
    assert {line["split"] for line in read_metrics(trained)} == {"train", "validation"}


@pytest.mark.parametrize(
    ("owner", "method", "on_device"),
    [(TrainBatches, "next_batches", "no"), (IndexBatches, "next_batches", "yes"), (Run, "shard_batch", "no")],
)
def test_data_wait_is_measured(
    owner: type,
    method: str,
    on_device: str,
    smoke_config: str,
    smoke_overrides: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a slow reader, and of a slow transfer to the device."""
    usual = getattr(owner, method)

    def slow(*arguments: Any) -> Any:
        time.sleep(0.2)
        return usual(*arguments)

    monkeypatch.setattr(owner, method, slow)
    overrides = {**smoke_overrides, "train.epochs": 1, "data.on_device": on_device}
    jaxnets.train(smoke_config, overrides, workdir=tmp_path / "run")
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    waited = [line["data_wait"] for line in lines if line["split"] == "train"]
    assert waited
    assert all(0.5 < fraction <= 1 for fraction in waited)


def test_extra_tests_are_added_to_the_result(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    further = {
        **smoke_overrides,
        **{"model.dropout": 0.5, "train.epochs": 1, "train.label_smoothing": 0.0},
        **{"eval.augment": True, "eval.dropout": True, "eval.monitor_test": True},
    }
    result = jaxnets.train(smoke_config, further, workdir=tmp_path / "run")
    tests = result["tests"]
    assert list(tests) == ["clean", "augmented", "dropout", "augmented_dropout"]
    assert len({test["loss"] for test in tests.values()}) == 4
    assert {test["examples"] for test in tests.values()} == {9}
    assert result["test_accuracy"] == tests["clean"]["accuracy"]
    monitored = [line for line in read_metrics(tmp_path / "run") if line["split"] == "test"]
    assert [line["epoch"] for line in monitored] == [1.0]
    assert monitored[0]["values"]["loss"] == pytest.approx(tests["augmented"]["loss"], rel=1e-6)
    assert re.search(r"other tests +augmented [\d.]+ %, dropout [\d.]+ %", capsys.readouterr().out)


def test_a_finished_run_prints_its_summary_again(
    trained: Path, smoke_config: str, smoke_overrides: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "result.json").read_bytes()
    jaxnets.train(smoke_config, smoke_overrides, workdir=trained)
    assert "test accuracy" in capsys.readouterr().out
    assert (trained / "result.json").read_bytes() == before


def test_training_is_deterministic(
    trained: Path, smoke_config: str, smoke_overrides: dict, tmp_path: Path
) -> None:
    jaxnets.train(smoke_config, {**smoke_overrides, "data.threads": 1}, workdir=tmp_path / "again")
    assert read_metrics(tmp_path / "again") == read_metrics(trained)


@pytest.mark.parametrize("finished", [True, False])
def test_another_config_in_an_existing_directory_raises(
    trained: Path, smoke_config: str, smoke_overrides: dict, tmp_path: Path, finished: bool
) -> None:
    directory = trained
    if not finished:
        directory = tmp_path / "started"
        made_results.write_files(directory, {"config.json": (trained / "config.json").read_bytes()})
    with pytest.raises(ConfigError, match=r"optimizer.learning_rate: 0.02 -> 0.5"):
        jaxnets.train(smoke_config, {**smoke_overrides, "optimizer.learning_rate": 0.5}, workdir=directory)


def test_a_locked_directory_raises(trained: Path, smoke_config: str, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from jaxnets.experiment import workdir\n"
        f"with workdir.lock_workdir(Path({str(tmp_path / 'locked')!r})):\n"
        "    print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with (
            pytest.raises(MachineError, match="in use by another process"),
            workdir.lock_workdir(tmp_path / "locked"),
        ):
            pass
        holder.kill()


def test_an_unused_directory_is_removed(tmp_path: Path) -> None:
    (tmp_path / "of_the_user").mkdir()
    for name, writes, remains in (("new", False, False), ("new", True, True), ("of_the_user", False, True)):
        with workdir.lock_workdir(tmp_path / name):
            assert (tmp_path / name / workdir.LOCK).is_file()
            if writes:
                (tmp_path / name / "file").write_text("")
        assert (tmp_path / name).is_dir() == remains
        assert not (tmp_path / name / workdir.LOCK).exists()


def test_an_unwritable_directory_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(MachineError, match="cannot be written"),
        workdir.lock_workdir(tmp_path / "file" / "run"),
    ):
        pass


def test_divergence_raises(smoke_config: str, smoke_overrides: dict, tmp_path: Path) -> None:
    wild = {**smoke_overrides, "optimizer.learning_rate": 1e12, "schedule.warmup_steps": 0}
    with pytest.raises(DivergedError, match="lower --config.optimizer.learning_rate"):
        jaxnets.train(smoke_config, wild, workdir=tmp_path / "wild")
    assert not (tmp_path / "wild" / "result.json").exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_the_run_resumes(
    trained: Path, smoke_config: str, smoke_overrides: dict, tmp_path: Path, number: int, code: int
) -> None:
    directory = tmp_path / "stopped"
    with pytest.raises(InterruptedRunError, match="stopped at step 3, saved") as caught:
        jaxnets.train(
            smoke_config, smoke_overrides, workdir=directory, callbacks=[SignalAfterStep(3, number)]
        )
    assert caught.value.exit_code == code
    assert not (directory / "result.json").exists()
    result = jaxnets.train(smoke_config, smoke_overrides, workdir=directory)
    assert read_metrics(directory) == read_metrics(trained)
    straight = json.loads((trained / "result.json").read_text())
    assert result["tests"] == straight["tests"]
    assert result["train_accuracy"] == straight["train_accuracy"]


def test_a_signal_during_evaluation_saves_and_resume_evaluates(
    trained: Path, smoke_config: str, smoke_overrides: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, check = tmp_path / "stopped", Run.check_interrupted

    def check_after_a_signal(run: Run) -> None:
        send_signal(run, signal.SIGTERM)
        check(run)

    monkeypatch.setattr(Run, "check_interrupted", check_after_a_signal)
    with pytest.raises(InterruptedRunError, match="saved"):
        jaxnets.train(smoke_config, smoke_overrides, workdir=directory)
    assert not [line for line in read_metrics(directory) if line["split"] == "validation"]
    monkeypatch.setattr(Run, "check_interrupted", check)
    jaxnets.train(smoke_config, smoke_overrides, workdir=directory)
    assert read_metrics(directory) == read_metrics(trained)


class _SignalAtTheEnd(Callback):
    """Sends this process a signal after the loop's last check."""

    def on_train_end(self, run: Any) -> None:
        send_signal(run, signal.SIGHUP)


def test_a_signal_at_the_end_of_the_loop_is_handled(
    trained: Path, smoke_config: str, smoke_overrides: dict, tmp_path: Path
) -> None:
    with pytest.raises(InterruptedRunError, match="saved") as caught:
        jaxnets.train(smoke_config, smoke_overrides, workdir=tmp_path / "run", callbacks=[_SignalAtTheEnd()])
    assert caught.value.exit_code == 129
    jaxnets.train(smoke_config, smoke_overrides, workdir=tmp_path / "run")
    assert read_metrics(tmp_path / "run") == read_metrics(trained)


def test_a_damaged_checkpoint_falls_back_to_the_last_valid_one(
    trained: Path,
    smoke_config: str,
    smoke_overrides: dict,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = tmp_path / "stopped"
    every = {**smoke_overrides, "checkpoint.every_steps": 1}
    with pytest.raises(InterruptedRunError):
        jaxnets.train(smoke_config, every, workdir=directory, callbacks=[SignalAfterStep(3, signal.SIGTERM)])
    newest = directory / "checkpoints" / f"{3:010d}" / "host_state.json"
    newest.write_text(newest.read_text().replace("0", "1", 1))
    capsys.readouterr()
    jaxnets.train(smoke_config, every, workdir=directory)
    printed = capsys.readouterr()
    assert "host_state.json has changed" in printed.err
    assert "from step 2" in printed.out
    assert read_metrics(directory) == read_metrics(trained)


def test_no_valid_checkpoint_raises(smoke_config: str, smoke_overrides: dict, tmp_path: Path) -> None:
    directory = tmp_path / "stopped"
    with pytest.raises(InterruptedRunError):
        jaxnets.train(
            smoke_config, smoke_overrides, workdir=directory, callbacks=[SignalAfterStep(2, signal.SIGTERM)]
        )
    for manifest in directory.glob("checkpoints/*/manifest.json"):
        manifest.write_text("{}")
    with pytest.raises(CheckpointError, match="no valid checkpoint in"):
        jaxnets.train(smoke_config, smoke_overrides, workdir=directory)


def test_nondeterministic_resume_raises_unless_allowed(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jaxnets.experiment import environment

    directory = tmp_path / "stopped"
    with pytest.raises(InterruptedRunError):
        jaxnets.train(
            smoke_config, smoke_overrides, workdir=directory, callbacks=[SignalAfterStep(2, signal.SIGTERM)]
        )
    determinism_fingerprint = environment.determinism_fingerprint
    monkeypatch.setattr(
        environment,
        "determinism_fingerprint",
        lambda **kw: {**determinism_fingerprint(**kw), "cpu_threads": 999},
    )
    with pytest.raises(CheckpointError, match=r"cpu_threads: \d+ -> 999"):
        jaxnets.train(smoke_config, smoke_overrides, workdir=directory)
    result = jaxnets.train(
        smoke_config, smoke_overrides, workdir=directory, allow_nondeterministic_resume=True
    )
    assert result["complete"]


def test_changed_split_raises(
    trained: Path, smoke_config: str, smoke_overrides: dict, tmp_path: Path
) -> None:
    directory = tmp_path / "started"
    config = (trained / "config.json").read_bytes()
    made_results.write_files(
        directory, {"config.json": config, "split.csv": "index,file,label,split,group\n"}
    )
    with pytest.raises(DataError, match="does not match the data"):
        jaxnets.train(smoke_config, smoke_overrides, workdir=directory)


class _Every(Callback):
    """Records the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_train_begin(self, run: Any) -> None:
        self.calls.append("start")

    def on_step_end(self, run: Any, metrics: Any) -> None:
        self.calls.append(f"step {run.step}")

    def on_evaluate(self, run: Any, metrics: dict[str, float]) -> None:
        self.calls.append(f"epoch {sorted(metrics)}")

    def on_train_end(self, run: Any) -> None:
        self.calls.append("end")


def test_a_user_callback_is_called_in_order(smoke_config: str, smoke_overrides: dict, tmp_path: Path) -> None:
    callback = _Every()
    jaxnets.train(
        smoke_config,
        {**smoke_overrides, "train.steps": 3, "eval.every_steps": 2},
        workdir=tmp_path / "run",
        callbacks=[callback],
    )
    message = "epoch ['accuracy', 'loss']"
    assert callback.calls == ["start", "step 1", "step 2", message, "step 3", message, "end"]


class _StopAt(Callback):
    def __init__(self, step: int):
        self._step = step

    def on_step_end(self, run: Any, metrics: Any) -> None:
        if run.step == self._step:
            run.stop("enough")


def test_a_callback_can_stop_training(smoke_config: str, smoke_overrides: dict, tmp_path: Path) -> None:
    result = jaxnets.train(smoke_config, smoke_overrides, workdir=tmp_path / "run", callbacks=[_StopAt(2)])
    assert result["stopped_early"] == "enough"
    assert result["complete"]
    assert result["epochs"] == 1


def test_a_run_that_stops_before_its_first_log_step_logs_once(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path
) -> None:
    overrides = {**smoke_overrides, "log.every_steps": 50}
    callbacks = [_StopAt(2)]
    result = jaxnets.train(smoke_config, overrides, workdir=tmp_path / "run", callbacks=callbacks)
    message = [line for line in read_metrics(tmp_path / "run") if line["split"] == "train"]
    assert [line["step"] for line in message] == [2]
    assert result["images_per_second"] > 0
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(CheckpointError, match=r"result.json is missing"):
        jaxnets.train(smoke_config, overrides, workdir=tmp_path / "run", callbacks=callbacks)
    again = jaxnets.train(
        smoke_config, overrides, workdir=tmp_path / "run", callbacks=callbacks, ignore_damage=True
    )
    assert again["images_per_second"] == result["images_per_second"]
    assert [line for line in read_metrics(tmp_path / "run") if line["split"] == "train"] == message


def test_a_run_in_another_thread_does_not_change_signal_handlers(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path
) -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        overrides = {**smoke_overrides, "train.epochs": 1}
        done = pool.submit(jaxnets.train, smoke_config, overrides, workdir=tmp_path / "run")
    assert done.result()["complete"]
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_an_unreachable_phase_is_a_warning(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {**smoke_overrides, "train.steps": 1, "schedule.warmup_steps": 2}
    jaxnets.train(smoke_config, overrides, workdir=tmp_path / "run")
    assert "warmup (2 steps) is longer than training (1 steps)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.name": "lc25000"}, "did you mean lc25000_lung"),
        ({"model.name": "resnet5"}, "did you mean resnet50"),
        ({"data.image_size": 8}, "16 pixels or more"),
        ({"model.num_classes": 4}, "has 3 classes"),
        ({"train.class_weights": (1.0, 2.0)}, "2 values"),
        ({"data.mean": (0.5, 0.5)}, "3 channels"),
        ({"data.name": "image_folder"}, "num_examples=60 is not used"),
        ({"train.batch_size": 64}, "fewer than one batch of 64"),
        ({"entry": "A/resnt50"}, "A/resnet50"),
        ({"model.name": "resnet50"}, "kernel_size=3 is not used because --config.model.name=resnet50"),
        ({"entry": "A/resnet50"}, "not comparable with this run, as --config.model.name=lenet5"),
    ],
)
def test_invalid_combinations_raise(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path, overrides: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        jaxnets.train(smoke_config, {**smoke_overrides, **overrides}, workdir=tmp_path / "run")


def test_a_split_without_test_examples_is_trained_and_not_tested(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    result = jaxnets.train(smoke_config, {**smoke_overrides, "data.fractions": (0.8, 0.2, 0.0)}, workdir=run)
    assert (result["tests"], result["test_accuracy"], result["test_examples"]) == ({}, None, 0)
    assert result["validation_accuracy"] is not None
    printed = capsys.readouterr().out
    assert "the split leaves no test examples" in printed
    assert "test accuracy  not tested" in printed
    assert f"predict.py --workdir {run} IMAGE_OR_FOLDER" in printed
    assert jaxnets.load(run).temperature == result["temperature"]
    with pytest.raises(ConfigError, match="this run has no test examples"):
        evaluate(run)


def test_image_folder_needs_a_path(smoke_config: str, smoke_overrides: dict, tmp_path: Path) -> None:
    overrides = {**smoke_overrides, "data.name": "image_folder"}
    del overrides["data.num_examples"]
    with pytest.raises(ConfigError, match=r"needs --config.data.path"):
        jaxnets.train(smoke_config, overrides, workdir=tmp_path / "run")


def test_a_rejected_config_leaves_the_directory_unused(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="fewer than one batch of 64"):
        jaxnets.train(smoke_config, {**smoke_overrides, "train.batch_size": 64}, workdir=tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_named_data_set_never_falls_back(smoke_config: str, smoke_overrides: dict, tmp_path: Path) -> None:
    overrides = {**smoke_overrides, "data.name": "lc25000_lung"}
    del overrides["data.num_examples"]
    with pytest.raises(DataError, match="prepare_data.py lc25000_lung"):
        jaxnets.train(smoke_config, overrides, workdir=tmp_path / "run")


def test_changed_data_raise(trained: Path, smoke_config: str, smoke_overrides: dict, tmp_path: Path) -> None:
    directory = tmp_path / "started"
    files: dict[str, str | bytes] = {
        name: (trained / name).read_bytes() for name in ("config.json", "split.csv")
    }
    manifest = json.loads((trained / "manifest.json").read_text())
    files["manifest.json"] = json.dumps({**manifest, "data_fingerprint": "0" * 64})
    made_results.write_files(directory, files)
    with pytest.raises(DataError, match="data have changed"):
        jaxnets.train(smoke_config, smoke_overrides, workdir=directory)


def test_training_without_a_cache_is_bit_identical(
    trained: Path, smoke_config: str, smoke_overrides: dict, tmp_path: Path
) -> None:
    jaxnets.train(smoke_config, {**smoke_overrides, "data.cache": False}, workdir=tmp_path / "run")
    assert read_metrics(tmp_path / "run") == read_metrics(trained)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["input_shape"] == [16, 16, 3]


def test_an_entry_that_is_not_comparable_is_dropped(smoke_config: str, smoke_overrides: dict) -> None:
    overrides = {**smoke_overrides, "data.name": "synthetic_tissue"}
    scratch = smoke_config.replace(":smoke", ":scratch")
    assert config_lib.load_config(scratch, overrides).entry == "A/resnet50"
    assert resolve(scratch, overrides).entry is None


def test_callbacks_with_the_same_name_raise(smoke_config: str, smoke_overrides: dict, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="callback names must be unique"):
        jaxnets.train(smoke_config, smoke_overrides, workdir=tmp_path / "run", callbacks=[_Every(), _Every()])


def test_a_diverged_state_is_never_saved(smoke_config: str, smoke_overrides: dict, tmp_path: Path) -> None:
    wild = {
        **smoke_overrides,
        "optimizer.learning_rate": 1e12,
        "schedule.warmup_steps": 0,
        "checkpoint.every_steps": 1,
        "log.every_steps": 6,
    }
    with pytest.raises(DivergedError):
        jaxnets.train(smoke_config, wild, workdir=tmp_path / "wild")
    # The second step's loss is NaN; between two lines of the log, only the save itself can see it.
    saved = [path.parent.name for path in (tmp_path / "wild").glob("checkpoints/*/manifest.json")]
    assert saved == ["0000000001"]


def test_incomplete_images_are_reported_before_the_demo(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lc25000_lung" / "lung_aca").mkdir(parents=True)
    spec = str(repository / "configs" / "lung_resnet.py")
    resolve(spec, {"data.root": str(tmp_path)})
    message = capsys.readouterr().out
    assert "LC25000 is incomplete (" in message
    assert "falling back to lung_resnet:demo" in message
    (tmp_path / "none").mkdir()
    resolve(spec, {"data.root": str(tmp_path / "none")})
    assert "LC25000 not found at " in capsys.readouterr().out
    with pytest.raises(DataError, match="data.root=.*nowhere is not a directory"):
        resolve(spec, {"data.root": str(tmp_path / "nowhere")})


@pytest.mark.slow
def test_the_demo_reaches_ninety_percent_in_four_minutes(repository: Path, tmp_path: Path) -> None:
    demo = str(repository / "configs" / "lung_resnet.py") + ":demo"
    result = jaxnets.train(demo, {"data.root": str(tmp_path)}, workdir=tmp_path / "demo")
    assert result["test_accuracy"] > 0.9
    assert result["seconds"] < 240


def test_a_finished_run_raises_for_other_data(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(repository / "configs" / "image_folder.py") + ":smoke"
    for name in ("one", "same", "other"):
        for label, colour in enumerate(("black", "white")):
            (tmp_path / name / colour).mkdir(parents=True)
            for number in range(20):
                level = 255 * label + (number + (name == "other")) * (1 - 2 * label)
                path = tmp_path / name / colour / f"{number}.png"
                Image.new("RGB", (16, 16), (level,) * 3).save(path)
    (tmp_path / "one" / "black" / "notes.gif").write_bytes(b"GIF89a")

    def train(name: str) -> dict[str, Any]:
        overrides = {
            **{"model.name": "lenet5", "model.kernel_size": 3, "log.tensorboard": False},
            "data.image_size": 16,
            **{"data.path": str(tmp_path / name), "data.root": str(tmp_path)},
        }
        return jaxnets.train(config, overrides, workdir=tmp_path / "run")

    first = train("one")
    assert "1 file skipped: 1 GIF in class black" in capsys.readouterr().out
    assert train("same") == first
    with pytest.raises(DataError, match="data have changed"):
        train("other")


@pytest.mark.parametrize(("size", "printed"), [(224, True), (299, False)])
def test_a_skipped_auxiliary_head_is_printed_first(
    size: int, printed: bool, tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(repository / "configs" / "lung_inception_v3.py")
    overrides = {"data.image_size": size, "data.root": str(tmp_path), "data.name": "lc25000_lung"}
    with pytest.raises(DataError):  # raised later: there are no images
        jaxnets.train(config, overrides, workdir=tmp_path / "run")
    message = capsys.readouterr().out
    assert message.startswith("note      Inception v3's auxiliary head is left out") is printed
    assert ("is left out" in message) is printed


def test_an_early_stop_is_printed_with_its_reason(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tiny learning rate improves less than min_delta."""
    overrides = {
        **smoke_overrides,
        "train.epochs": 9,
        "optimizer.learning_rate": 1e-9,
        "early_stopping.patience": 1,
        "early_stopping.min_delta": 0.5,
    }
    result = jaxnets.train(smoke_config, overrides, workdir=tmp_path / "run")
    assert result["epochs"] == 2
    printed = capsys.readouterr().out
    message = re.search(r"^stop +at step 4 of 18, epoch 2 of 9: (.*); testing (.*)$", printed, re.M)
    assert message is not None
    assert re.fullmatch(r"validation_loss has not improved over [\d.]+ for 1 evaluation", message[1])
    assert message[2].startswith("the final state (step 4)")
    assert re.search(r"^stopped early +validation_loss has not improved", printed, re.M)
    best = {**overrides, "eval.use_best": True}
    result = jaxnets.train(smoke_config, best, workdir=tmp_path / "best")
    assert f"testing the best checkpoint (step {result['step']})" in capsys.readouterr().out


def test_a_short_run_logs_once_per_epoch(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jaxnets.train(smoke_config, {**smoke_overrides, "log.every_steps": 50}, workdir=tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    assert [line["epoch"] for line in lines if line["split"] == "train"] == [1, 2]
    assert len(re.findall(r"^train .*loss \d.*accuracy", capsys.readouterr().out, re.M)) == 2


def test_a_config_object_is_the_same_run_as_its_file(
    trained: Path, smoke_config: str, smoke_overrides: dict
) -> None:
    config = config_lib.load_config(smoke_config, smoke_overrides)
    result = jaxnets.train(config, workdir=trained)
    assert result == jaxnets.train(smoke_config, smoke_overrides, workdir=trained)


def test_an_invalid_config_object_raises(tmp_path: Path) -> None:
    config = config_lib.default_config()
    with pytest.raises(ConfigError, match="training duration"):
        jaxnets.train(config, workdir=tmp_path)
    config.model.name, config.train.epochs = "lenet5", 1
    with pytest.raises(ConfigError, match="learning_rate"):
        jaxnets.train(config, {"optimizer.learning_rate": -1.0}, workdir=tmp_path)
    with pytest.raises(DataError, match="set data.name"):
        jaxnets.train(config, {"data.root": str(tmp_path)}, workdir=tmp_path)
    with config.unlocked():
        config.optimizer.learning_rates = 0.1
    with pytest.raises(ConfigError, match="did you mean optimizer.learning_rate"):
        jaxnets.train(config, workdir=tmp_path)
