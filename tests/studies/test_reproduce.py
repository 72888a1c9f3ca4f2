"""reproduce.py: tables, run names, skipped, resumed and failed rows, the budget, and signals.

Most tests replace the trainer by a stub that writes a run directory and sleeps instead of training.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import made_results
import numpy as np
import pytest
from absl import flags

from jaxnets import config as config_lib
from jaxnets.commands import runner
from jaxnets.errors import CheckFailedError, ConfigError
from jaxnets.evaluation.predictions import Predictions, load_predictions, predictions_path
from jaxnets.experiment import evaluator, run_files, workdir
from studies import reproduce, runtime_estimate, sweeps
from studies.reproduce import State
from studies.result_archive import finished

HARDWARE = "a test machine"
STEPS, IMAGES_PER_SECOND = 6, 100.0
RESULT = made_results.make_result(
    leakage={"test": 1.0}, tests={"clean": made_results.entry(0.5, interval=[0.4, 0.6])}
)
STUB = """
import ast, contextlib, hashlib, json, os, pathlib, signal, sys, time
from jaxnets import config as config_lib
from jaxnets.experiment import run_files, workdir

STEPS, SPEED, HARDWARE = {steps}, {speed}, {hardware!r}
flags = dict(flag.removeprefix("--").split("=", 1) for flag in sys.argv[1:] if "=" in flag)
folder = pathlib.Path(flags["workdir"])
home = pathlib.Path(__file__).parent
plan = json.loads((home / "plan.json").read_text()).get(folder.name, {{}})


def value(path, text):
    return text if config_lib.FIELDS[path].type is str else ast.literal_eval(text)


fields = [(name.removeprefix("config."), text) for name, text in flags.items() if "config." in name]
config = config_lib.load_config(flags["config"], {{path: value(path, text) for path, text in fields}})
folder.mkdir(parents=True, exist_ok=True)
stack = contextlib.ExitStack()
stack.enter_context(workdir.lock_workdir(folder))
if plan.get("message"):
    print(plan["message"], file=sys.stderr)
if plan.get("kill_signal"):
    os.kill(os.getpid(), plan["kill_signal"])
if plan.get("exit_code"):
    sys.exit(plan["exit_code"])
(folder / "config.json").write_text(config_lib.to_json(config))
split = "index,file,label,split,group\\n" + "0,a,b,train,\\n" * (STEPS * config.train.batch_size)
(folder / "split.csv").write_text(split)
size = config.data.image_size
manifest = {{"command": "", "versions": {{}}, "hardware": HARDWARE, "git_commit": None, "data": "",
            "classes": [], "input_shape": [size, size, 3], "data_fingerprint": "",
            "split_sha256": hashlib.sha256(split.encode()).hexdigest()}}
(folder / "manifest.json").write_text(json.dumps(manifest))
saved = sorted(int(path.name) for path in folder.glob("checkpoints/*"))
step = saved[-1] if saved else 0
with (home / "calls").open("a") as calls:
    calls.write(f"{{folder.name}} {{step}}\\n")
stopped = []
signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
signal.signal(signal.SIGINT, lambda number, frame: stopped.append(number))
line = {{"step": 1, "epoch": 1, "split": "train", "values": {{}}, "images_per_second": SPEED}}
while step < STEPS:
    (folder / "started").touch()
    time.sleep(plan.get("step_seconds", 0))
    step += 1
    with (folder / "metrics.jsonl").open("a") as metrics:
        metrics.write(json.dumps(line) + "\\n")
    if stopped and not plan.get("ignore_signals"):
        (folder / "checkpoints" / f"{{step:010d}}").mkdir(parents=True)
        (folder / "checkpoints" / f"{{step:010d}}" / "manifest.json").write_text("{{}}")
        print(f"train.py: stopped at step {{step}}, saved", file=sys.stderr)
        sys.exit(128 + stopped[0])
result = json.loads({result!r}) | {{"images_per_second": SPEED, "hardware": HARDWARE}}
result |= {{"name": config.name, "model": config.model.name, "data": config.data.name,
           "seed": config.seed, "batch_size": config.train.batch_size}}
(folder / "result.json").write_text(json.dumps(result))
"""


class Workspace:
    """A folder with a stub trainer, a table, runs and results."""

    def __init__(self, folder: Path, config_path: str):
        self.folder, self.config_path = folder, config_path
        self.runs, self.results = folder / "runs", folder / "results"
        self.table = folder / "table.py"
        self.trainer = folder / "train.py"
        self.trainer.write_text(
            STUB.format(steps=STEPS, speed=IMAGES_PER_SECOND, hardware=HARDWARE, result=json.dumps(RESULT))
        )
        self.plan({})

    def plan(self, rows: dict[str, Any]) -> None:
        """Sets what the stub does: message, kill_signal, exit_code, step_seconds, ignore_signals by row."""
        (self.folder / "plan.json").write_text(json.dumps(rows))

    def write_table(self, *rows: dict[str, Any]) -> None:
        """Writes the table."""
        entries = [{"config": self.config_path, "overrides": {"train.epochs": 1}, **row} for row in rows]
        self.table.write_text(f"def get_rows():\n    return {entries!r}\n")

    def options(self, **more: Any) -> reproduce.Options:
        given: dict[str, Any] = {"patience": 0.2, "hardware": lambda: HARDWARE, **more}
        return reproduce.Options(self.runs, self.results, trainer=self.trainer, **given)

    def reproduce(self, **more: Any) -> list[tuple[str, State]]:
        outcomes = reproduce.reproduce(str(self.table), self.options(**more))
        return [(outcome.row.name, outcome.state) for outcome in outcomes]

    @property
    def calls(self) -> list[str]:
        """The row name and first step of every start of the stub that trained."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.is_file() else []


@pytest.fixture
def workspace(tmp_path: Path, smoke_config: str) -> Workspace:
    return Workspace(tmp_path, smoke_config)


# Tables and run names.


@pytest.mark.parametrize(
    ("overrides", "seed", "name"),
    [
        ({}, 0, "lung_resnet-smoke-s0"),
        ({"data.image_size": 96}, 7, "lung_resnet-smoke-image_size96-s7"),
        ({"note": "any / thing", "data.root": "/x"}, 0, "lung_resnet-smoke-s0"),
        ({"model.name": "lenet5"}, 0, "lung_resnet-smoke-model.name_lenet5-s0"),
        ({"model.stage_sizes": [1, 2, 1, 1]}, 0, "lung_resnet-smoke-stage_sizes_1x2x1x1-s0"),
        (
            {"model.name": "mlp", "model.activations": ("tanh", "relu", "tanh")},
            0,
            "lung_resnet-smoke-model.name_mlp-activations_tanhxreluxtanh-s0",
        ),
        ({"optimizer.learning_rate": 1e-3}, 0, "lung_resnet-smoke-learning_rate0.001-s0"),
        ({"optimizer.nesterov": False}, 0, "lung_resnet-smoke-nesterov_False-s0"),
    ],
)
def test_run_name_describes_the_config(
    workspace: Workspace, overrides: dict[str, Any], seed: int, name: str
) -> None:
    workspace.write_table({"overrides": overrides, "seed": seed})
    assert [row.name for row in sweeps.read_table(str(workspace.table))] == [name]


def test_run_name_does_not_depend_on_the_order_of_overrides(workspace: Workspace) -> None:
    overrides = {"data.image_size": 48, "train.epochs": 3, "model.width": 4}
    names = set()
    for keys in (list(overrides), list(reversed(overrides))):
        workspace.write_table({"overrides": {key: overrides[key] for key in keys}})
        names |= {row.name for row in sweeps.read_table(str(workspace.table))}
    assert len(names) == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{}, {}], "rows 1 and 2 are both named"),
        ([{"overides": {}}], "unknown key 'overides' (did you mean overrides?)"),
        ([{"config": None}], "'config' must be a text"),
        ([{"seed": True}], "'seed' must be a whole number"),
        ([{"seed": -1}], "--config.seed=-1 is out of range"),
        ([{"overrides": [1]}], "'overrides' must be a dict"),
        ([{"overrides": {"data.image_sise": 96}}], "unknown config field 'data.image_sise'"),
        ([{"overrides": {"data.image_size": "big"}}], "row 1"),
        ([{"overrides": {"train.batch_size": None}}], "not None"),
        ([{"overrides": {"seed": 3}}], "give the seed as 'seed'"),
        ([{"overrides": {"data.name": "auto"}}], "may fall back on drawn tissue"),
        ([{"name": "../up"}], "cannot be a folder's name"),
        ([{"name": "x" * 300}], "cannot be a folder's name"),
        ([], "has no rows"),
    ],
)
def test_invalid_table_raises(workspace: Workspace, rows: list[dict[str, Any]], message: str) -> None:
    workspace.write_table(*rows)
    with pytest.raises(ConfigError) as raised:
        workspace.reproduce()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not workspace.runs.exists()


@pytest.mark.parametrize("text", ["x = 1\n", "def get_rows(:\n", "import no_such_module_here\n"])
def test_other_files_are_not_tables(workspace: Workspace, text: str) -> None:
    workspace.table.write_text(text)
    with pytest.raises(ConfigError, match="is not a table"):
        workspace.reproduce()


def test_unknown_table_suggests_the_nearest_name(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    with pytest.raises(ConfigError, match=r"did you mean lung_resnet\?"):
        sweeps.read_table("lung_resnt")


def test_shipped_tables_are_valid(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    rows = sweeps.read_table("lung_resnet")
    assert [row.name for row in rows] == [
        "lung_resnet-scratch-96px-s0",
        "lung_resnet-scratch-224px-s0",
    ]
    assert [row.config.data.image_size for row in rows] == [96, 224]
    assert {(row.config.data.name, row.config.train.epochs) for row in rows} == {("lc25000_lung", 10)}
    for path in Path("configs/sweeps").glob("[!_]*.py"):
        assert sweeps.read_table(path.stem)


def test_stored_results_have_the_commands_of_their_rows(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    rows = [row for name in ("lung_resnet", "lung") for row in sweeps.read_table(name)]
    results = {row.name: finished(Path("results") / row.name, row.config) for row in rows}
    assert results["lung_resnet-scratch-96px-s0"] is not None
    for row in rows:
        result = results[row.name]
        assert result is None or result["command"] == row.command()


# ml_collections imports config files with a deprecated method.
@pytest.mark.filterwarnings("ignore:.*load_module:DeprecationWarning")
def test_flags_of_a_row_give_its_config(workspace: Workspace) -> None:
    overrides = {
        "note": 'two words; "quoted", (1, 2)',
        "model.stage_sizes": [2, 1],
        "train.class_weights": (1.0, 2.0, 3.5),
        "train.steps": 9,
        "optimizer.learning_rate": 1e-5,
        "optimizer.nesterov": False,
        "train.ema_decay": 0.99,
        "model.compute_dtype": "bfloat16",
    }
    workspace.write_table({"overrides": overrides, "seed": 5})
    (row,) = sweeps.read_table(str(workspace.table))
    argv = ["train.py", *row.flags(Path("w"))]
    given = runner.parse_overrides(workspace.config_path, argv)
    assert not config_lib.differences(config_lib.load_config(workspace.config_path, given), row.config)


# Running rows.


def test_complete_rows_are_stored_and_skipped(workspace: Workspace) -> None:
    workspace.write_table({"seed": 0}, {"seed": 1})
    first, second = (f"lung_resnet-smoke-epochs1-s{seed}" for seed in (0, 1))
    assert workspace.reproduce() == [(first, State.COMPLETE), (second, State.COMPLETE)]
    assert workspace.reproduce() == [(first, State.WAS_COMPLETE), (second, State.WAS_COMPLETE)]
    assert workspace.calls == [f"{first} 0", f"{second} 0"]

    folder = workspace.results / second
    files = {"checksums.json", "config.json", "metrics.jsonl", "result.json"}
    assert {path.name for path in folder.iterdir()} == files
    result = json.loads((folder / "result.json").read_text())
    assert result["overrides"] == ["train.epochs=1", "seed=1"]
    assert result["command"] == (
        f"python scripts/train.py --config={workspace.config_path} --config.train.epochs=1 --config.seed=1 "
        f"--workdir=runs/{second}"
    )


def test_stored_results_or_finished_runs_are_not_repeated(workspace: Workspace) -> None:
    workspace.write_table({})
    workspace.reproduce()
    workspace.runs.rename(workspace.folder / "elsewhere")
    assert [state for _, state in workspace.reproduce()] == [State.WAS_COMPLETE]
    (workspace.folder / "elsewhere").rename(workspace.runs)
    workspace.results.rename(workspace.folder / "elsewhere")
    assert [state for _, state in workspace.reproduce()] == [State.WAS_COMPLETE]
    assert len(list(workspace.results.glob("*/result.json"))) == 1
    assert len(workspace.calls) == 1


def test_stored_config_has_no_data_paths(workspace: Workspace) -> None:
    paths_and_origin = {
        "data.cache_root": "/somewhere/private",
        "transfer.weights": "random",
        "transfer.pretrained_on": "ImageNet",
    }
    workspace.write_table({"overrides": {"train.epochs": 1, **paths_and_origin}})
    ((name, _),) = workspace.reproduce()
    result = json.loads((workspace.results / name / "result.json").read_text())
    assert result["pretrained_on"] == "ImageNet"
    assert "private" in (workspace.runs / name / run_files.CONFIG).read_text()
    assert "private" not in (workspace.results / name / run_files.CONFIG).read_text()


@pytest.mark.parametrize(("group", "stored"), [([5, 5, 8], True), ([5, 6, 8], False)])
def test_predictions_are_stored_if_test_examples_have_near_duplicates(
    workspace: Workspace, group: list[int], stored: bool
) -> None:
    workspace.write_table({})
    ((name, _),) = workspace.reproduce()
    predictions = Predictions(
        index=np.arange(3),
        label=np.array([0, 1, 2], np.int32),
        probabilities=np.eye(3, dtype=np.float32),
        files=np.array(["a", "b", "c"]),
        group=np.array(group),
    )
    predictions.save(predictions_path(workspace.runs / name))
    path = predictions_path(workspace.results / name)
    path.parent.mkdir()
    path.write_text("of an earlier result")
    _remove_result(workspace.results / name)
    assert workspace.reproduce() == [(name, State.WAS_COMPLETE)]
    assert path.is_file() == stored
    if stored:
        np.testing.assert_array_equal(load_predictions(path).group, group)


def _remove_result(folder: Path) -> None:
    """Deletes a stored result, so that it is copied again."""
    for name in ("checksums.json", "result.json"):
        (folder / name).unlink()


def test_another_config_under_the_same_name_fails(workspace: Workspace) -> None:
    workspace.write_table({"name": "mine"})
    workspace.reproduce()
    workspace.write_table({"name": "mine", "overrides": {"train.epochs": 2}})
    with pytest.raises(CheckFailedError):
        workspace.reproduce()
    (outcome,) = reproduce.list_rows(str(workspace.table), workspace.options())
    assert outcome.state is State.FAILED
    assert "train.epochs: 1 -> 2" in outcome.detail


def test_settings_copied_from_weights_do_not_change_the_config(workspace: Workspace) -> None:
    """A run copies preprocessing and variant from its weights; the row of the table does not set them."""
    workspace.write_table({"name": "from-weights", "overrides": {"transfer.weights": "somewhere"}})
    assert workspace.reproduce() == [("from-weights", State.COMPLETE)]
    path = workspace.runs / "from-weights" / run_files.CONFIG
    config = json.loads(path.read_text())
    config["data"]["mean"] = [0.485, 0.456, 0.406]
    config["model"]["variant"] = "keras"
    path.write_text(json.dumps(config))
    _remove_result(workspace.results / "from-weights")
    assert workspace.reproduce() == [("from-weights", State.WAS_COMPLETE)]
    assert workspace.reproduce() == [("from-weights", State.WAS_COMPLETE)]
    config["optimizer"]["learning_rate"] = 5.0
    (workspace.results / "from-weights" / run_files.CONFIG).write_text(json.dumps(config))
    (outcome,) = reproduce.list_rows(str(workspace.table), workspace.options())
    assert "config.json has changed since it was written" in outcome.detail
    (workspace.results / "from-weights" / "checksums.json").unlink()
    with pytest.raises(CheckFailedError):
        workspace.reproduce()


def test_failed_row_does_not_stop_the_others(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    workspace.write_table(*({"name": name} for name in ("missing", "killed", "silent", "good")))
    workspace.plan(
        {
            "missing": {"exit_code": 3, "message": "train.py: no lungs here: breathe"},
            "killed": {"kill_signal": signal.SIGKILL},
            "silent": {"exit_code": 1},
        }
    )
    with pytest.raises(CheckFailedError, match="3 of 4 rows failed: missing, killed, silent;") as raised:
        workspace.reproduce()
    assert raised.value.exit_code == 7
    out, err = capfd.readouterr()
    table = {line.split()[0]: line for line in out.splitlines()[-5:]}
    assert "failed: no lungs here: breathe" in table["missing"]
    assert "failed: killed by SIGKILL" in table["killed"]
    assert "failed: ended with exit code 1 and no result" in table["silent"]
    assert table["good"].split()[1:] == [
        "complete",
        "50.0",
        "%",
        "[40.0,",
        "60.0]",
        "random,",
        "LEAKY",
        "100",
    ]
    assert "no lungs here" in err

    workspace.plan({})
    assert [state for _, state in workspace.reproduce()] == [State.COMPLETE] * 3 + [State.WAS_COMPLETE]


def test_only_selects_rows(workspace: Workspace) -> None:
    workspace.write_table({"name": "a1"}, {"name": "b1"}, {"name": "b2"})
    assert workspace.reproduce(only=["b", "x"]) == [("b1", State.COMPLETE), ("b2", State.COMPLETE)]
    with pytest.raises(ConfigError, match="is in no row's name"):
        workspace.reproduce(only=["x"])


def test_list_rows_runs_and_writes_nothing(workspace: Workspace) -> None:
    workspace.write_table({"name": "done"}, {"name": "new"})
    workspace.reproduce(only=["done"])
    before = sorted(workspace.folder.rglob("*"))
    outcomes = reproduce.list_rows(str(workspace.table), workspace.options())
    assert [outcome.state for outcome in outcomes] == [State.WAS_COMPLETE, State.NEW]
    assert sorted(workspace.folder.rglob("*")) == before


# The budget.


def test_budget_stops_a_row_that_resumes_later(workspace: Workspace) -> None:
    workspace.write_table({"name": "first"}, {"name": "second"})
    workspace.plan({"first": {"step_seconds": 1}})
    assert workspace.reproduce(budget=2.0) == [("first", State.CUT), ("second", State.LEFT_OUT)]
    step = runtime_estimate.saved_step(workspace.runs / "first")
    assert step is not None
    assert 0 < step < STEPS
    workspace.plan({})
    assert workspace.reproduce(budget=60) == [("first", State.RESUMED), ("second", State.COMPLETE)]
    assert workspace.calls == ["first 0", f"first {step}", "second 0"]


def test_budget_skips_a_row_that_needs_more(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.write_table({"name": "known"}, {"name": "long", "overrides": {"train.epochs": 500}})
    # 500 epochs of three batches of 16 and of 13 images evaluated, at 100 and 300 images/s: 262 s.
    assert workspace.reproduce(budget=30) == [("known", State.COMPLETE), ("long", State.LEFT_OUT)]
    message = capsys.readouterr().out
    assert "needs about 5 min (100 images/s), " in message
    assert "--budget=6 begins it" in message
    assert workspace.reproduce(budget=30) == [("known", State.WAS_COMPLETE), ("long", State.LEFT_OUT)]
    assert workspace.reproduce(budget=3600)[1] == ("long", State.COMPLETE)


def test_started_row_resumes_regardless_of_its_estimate(workspace: Workspace) -> None:
    workspace.write_table({"name": "known"}, {"name": "long", "overrides": {"train.epochs": 500}})
    saved = workspace.runs / "long" / "checkpoints" / f"{2:010d}"
    saved.mkdir(parents=True)
    (saved / "manifest.json").write_text("{}")
    assert workspace.reproduce(budget=20) == [("known", State.COMPLETE), ("long", State.RESUMED)]


@pytest.mark.parametrize(
    ("changes", "hardware", "seconds"),
    [
        ({}, HARDWARE, 1.5),  # 100 images in training, 2 x 45 + 60 in evaluation
        ({"data.image_size": 64}, HARDWARE, 6.0),  # four times the pixels of 32
        ({"train.epochs": 3}, HARDWARE, 3.8),
        ({"train.epochs": 2, "eval.every_epochs": 2}, HARDWARE, 2.5),
        ({"model.width": 16}, HARDWARE, None),
        ({}, "another machine", None),
    ],
)
def test_runtime_estimate(
    workspace: Workspace, changes: dict[str, Any], hardware: str, seconds: float | None
) -> None:
    workspace.write_table({"name": "known"})
    workspace.reproduce()
    known = runtime_estimate.measurements([workspace.runs, workspace.results])
    config = config_lib.load_config(
        workspace.config_path, {"train.epochs": 1, "train.drop_last": False, **changes}
    )
    run = workspace.folder / "run"
    run.mkdir()
    lines = "0,train\n" * 96 + "0,validation\n" * 45 + "0,test\n" * 60
    (run / "split.csv").write_text("index,split\n" + lines)
    config.train.batch_size = 10  # 96 examples make ten batches, the last one short
    estimate = runtime_estimate.estimate(config, run, known, hardware)
    expected = seconds and pytest.approx(runtime_estimate.START_SECONDS + seconds)
    assert (estimate and estimate.seconds) == expected
    basis = "" if estimate is None else estimate.basis
    assert ("extrapolated from 32 px" in basis) == (changes == {"data.image_size": 64})


def test_runtime_estimate_without_a_split(workspace: Workspace) -> None:
    workspace.write_table({"name": "known"})
    workspace.reproduce()
    known = runtime_estimate.measurements([workspace.runs])
    config = config_lib.load_config(workspace.config_path, {"data.num_examples": 100})
    estimate = runtime_estimate.estimate(config, workspace.folder / "none", known, HARDWARE)
    # 70, 15 and 15: two epochs of four batches of 16, three validations and a test.
    assert estimate is not None
    assert estimate.seconds == pytest.approx(runtime_estimate.START_SECONDS + (2 * 64 + 60 / 3) / 100)
    config.data.name, config.data.root = "lc25000_lung", str(workspace.folder)
    assert runtime_estimate.estimate(config, workspace.folder / "none", known, HARDWARE) is None


def test_runtime_estimate_of_cached_features(workspace: Workspace) -> None:
    workspace.write_table({"name": "known"})
    workspace.reproduce()
    path = workspace.runs / "known"
    frozen = {
        "transfer.weights": "random",
        "transfer.freeze_backbone": True,
        "data.num_examples": 100,
    }
    plain = dict.fromkeys(("flip_horizontal", "flip_vertical", "right_angles"), False)
    frozen |= {f"augment.{name}": value for name, value in plain.items()}
    config = config_lib.load_config(workspace.config_path, frozen)
    none = workspace.folder / "none"
    assert (
        runtime_estimate.estimate(config, none, runtime_estimate.measurements([workspace.runs]), HARDWARE)
        is None
    )
    (path / "config.json").write_text(config_lib.to_json(config))
    result = json.loads((path / "result.json").read_text())
    result |= {"on_cached_features": True, "features_seconds": 7.0, "images_per_second": 100.0}
    (path / "result.json").write_text(json.dumps(result))
    known = runtime_estimate.measurements([workspace.runs])
    seconds = (2 * 64 + 60 / 3) / 100
    for size, features_seconds in ((32, 7.0), (64, 28.0)):  # the head's steps do not depend on the size
        config.data.image_size = size
        estimate = runtime_estimate.estimate(config, none, known, HARDWARE)
        assert estimate is not None
        assert estimate.seconds == pytest.approx(runtime_estimate.START_SECONDS + seconds + features_seconds)
    trainable_backbone = config_lib.load_config(
        workspace.config_path, {**frozen, "transfer.freeze_backbone": False}
    )
    assert runtime_estimate.estimate(trainable_backbone, none, known, HARDWARE) is None


def test_newest_measurement_is_chosen_by_its_finish_time(workspace: Workspace) -> None:
    workspace.write_table({"name": "old"}, {"name": "new"})
    workspace.reproduce()
    for name, speed, day in (("new", 50.0, 2), ("old", 900.0, 1)):  # the older one is written last
        path = workspace.runs / name / "result.json"
        changes = {"images_per_second": speed, "finished": f"2026-01-0{day}T00:00:00+00:00"}
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    config = config_lib.load_config(workspace.config_path, {"train.epochs": 1})
    known = runtime_estimate.measurements([workspace.runs])
    estimate = runtime_estimate.estimate(config, workspace.folder / "none", known, HARDWARE)
    assert estimate is not None
    assert estimate.basis == "50 images/s"


def test_median_speed() -> None:
    line = {"step": 1, "epoch": 1.0, "split": "train", "values": {}}
    lines: list[Any] = [{**line, "images_per_second": speed} for speed in (90.0, 0.1, 110.0, 100.0)]
    lines.insert(1, {**line, "split": "validation"})
    lines.append({**line, "images_per_second": "fast"})
    metrics = "".join(json.dumps(line) + "\n" for line in lines).encode() + b'{"step": \xff'
    assert evaluator.median_speed(metrics) == 95.0
    assert evaluator.median_speed(metrics, last=1) == 100.0
    assert evaluator.median_speed(b"") is None


def test_damaged_results_are_not_measurements(workspace: Workspace) -> None:
    workspace.write_table({"name": "known"})
    workspace.reproduce()
    (workspace.runs / "known" / "result.json").write_text("{")
    (workspace.results / "known" / "config.json").write_text('{"no_such_field": 1}')
    assert runtime_estimate.measurements([workspace.runs, workspace.results, workspace.folder / "none"]) == []


# Kills and locks.


DRIVER = """
import sys
from pathlib import Path
from jaxnets.commands import runner
from studies import reproduce

folder = Path({folder!r})
options = reproduce.Options(folder / "runs", folder / "results", trainer=folder / "train.py")
runner.execute(lambda arguments: reproduce.reproduce(str(folder / "table.py"), options))
"""


@contextlib.contextmanager
def _driver(workspace: Workspace) -> Iterator[subprocess.Popen[str]]:
    path = workspace.folder / "driver.py"
    path.write_text(DRIVER.format(folder=str(workspace.folder)))
    # An invalid platform, so that any use of a device fails.
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "no_such_platform",
        "PYTHONPATH": str(Path(__file__).parents[2]),  # studies/ is not installed
    }
    with subprocess.Popen(
        [sys.executable, str(path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def _wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "timed out"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM),
        pytest.param(signal.SIGINT, 128 + signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(
            signal.SIGKILL,
            -signal.SIGKILL,
            marks=pytest.mark.skipif(
                sys.platform != "linux", reason="only Linux signals the child when its parent dies"
            ),
        ),
    ],
)
def test_stopped_by_a_signal_and_resumed(workspace: Workspace, number: int, code: int) -> None:
    workspace.write_table({"name": "first"}, {"name": "second"}, {"name": "third"})
    workspace.plan({"second": {"step_seconds": 0.5}})
    with _driver(workspace) as process:
        _wait_until((workspace.runs / "second" / "started").exists)
        process.send_signal(number)
        assert process.wait(60) == code
        # The trainer, signalled by us or by the kernel, saves and exits.
        _wait_until(lambda: runtime_estimate.saved_step(workspace.runs / "second") is not None)
    step = runtime_estimate.saved_step(workspace.runs / "second")
    assert step is not None
    assert step < STEPS
    assert [path.name for path in workspace.results.iterdir()] == ["first"]

    workspace.plan({})
    assert workspace.reproduce(patience=60) == [
        ("first", State.WAS_COMPLETE),
        ("second", State.RESUMED),
        ("third", State.COMPLETE),
    ]
    assert workspace.calls == ["first 0", "second 0", f"second {step}", "third 0"]


def test_signal_stops_even_if_the_result_cannot_be_stored(workspace: Workspace) -> None:
    workspace.write_table({"name": "first"}, {"name": "second"})
    workspace.plan({"first": {"step_seconds": 0.3, "ignore_signals": True}})
    workspace.results.write_text("in the way")
    with _driver(workspace) as process:
        _wait_until((workspace.runs / "first" / "started").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert (workspace.runs / "first" / "result.json").exists()
    assert not (workspace.runs / "second").exists()


def test_run_in_use_fails_after_a_wait(workspace: Workspace) -> None:
    workspace.write_table({"name": "busy"}, {"name": "free"})
    with workdir.lock_workdir(workspace.runs / "busy"):
        outcomes = reproduce.list_rows(str(workspace.table), workspace.options())
        assert [outcome.state for outcome in outcomes] == [State.IN_USE, State.NEW]
        with pytest.raises(CheckFailedError, match="1 of 2 rows failed: busy;"):
            workspace.reproduce()
    assert workspace.reproduce() == [("busy", State.COMPLETE), ("free", State.WAS_COMPLETE)]


def test_waits_for_an_earlier_process_that_is_saving(workspace: Workspace) -> None:
    workspace.write_table({"name": "busy"})
    program = (
        "import sys, time; from pathlib import Path; from jaxnets.experiment import workdir\n"
        "with workdir.lock_workdir(Path(sys.argv[1])): print('locked', flush=True); time.sleep(0.5)"
    )
    command = [sys.executable, "-c", program, str(workspace.runs / "busy")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        assert workspace.reproduce(patience=30) == [("busy", State.COMPLETE)]
        assert holder.wait() == 0


LISTER = """
import sys
from pathlib import Path
from jaxnets.experiment import run_files, workdir
print("ready", flush=True)
while True:
    workdir.is_in_use(Path(sys.argv[1]))
"""


def test_listing_does_not_block_a_starting_run(workspace: Workspace) -> None:
    folder = workspace.runs / "starting"
    with workdir.lock_workdir(folder):
        pass
    with subprocess.Popen([sys.executable, "-c", LISTER, str(folder)], stdout=subprocess.PIPE) as lister:
        assert lister.stdout is not None
        assert lister.stdout.readline() == b"ready\n"
        try:
            for _ in range(3000):
                with workdir.lock_workdir(folder):
                    pass
        finally:
            lister.kill()


def test_common_flags_are_passed_to_the_trainer(workspace: Workspace, repository: Path) -> None:
    given = {
        "traceback": "--traceback",
        "keep_memory": "--nokeep_memory",
        "kernels": "--nokernels",
        "kernels_folder": "--kernels_folder=k",
        "compilation_cache": "--compilation_cache=none",
    }
    common_flags = {flag.name for flag in flags.FLAGS.flags_by_module_dict()[runner.__name__]}
    assert common_flags >= given.keys()
    workspace.write_table({"name": "a"})
    program = (
        "import runpy, sys; from studies import reproduce\n"
        "reproduce.reproduce = lambda table, options: print(*options.train_flags)\n"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", program, "scripts/reproduce.py", str(workspace.table)),
            *(*given.values(), "--allow_nondeterministic_resume"),
        ],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted([*given.values(), "--allow_nondeterministic_resume"])


# With the real trainer.


@pytest.mark.slow
def test_script_trains_a_row(workspace: Workspace, repository: Path, smoke_overrides: dict[str, Any]) -> None:
    workspace.write_table({"name": "real", "overrides": {**smoke_overrides, "train.epochs": 1}, "seed": 3})
    flags = [f"--runs={workspace.runs}", f"--results={workspace.results}", "--budget=10"]
    command = [sys.executable, "scripts/reproduce.py", str(workspace.table), *flags]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("real  complete ")
    result = json.loads((workspace.results / "real" / "result.json").read_text())
    assert (result["seed"], result["model"], result["complete"]) == (3, "lenet5", True)
    assert (workspace.results / "real" / "metrics.jsonl").read_text().count("\n") >= 2
    (outcome,) = reproduce.list_rows(str(workspace.table), workspace.options())
    assert outcome.state is State.WAS_COMPLETE


def test_script_exits_with_2_for_an_unknown_table(repository: Path) -> None:
    command = [sys.executable, "scripts/reproduce.py", "smoky", "--list"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "reproduce.py: no table 'smoky' (did you mean smoke?); there are " in done.stderr
