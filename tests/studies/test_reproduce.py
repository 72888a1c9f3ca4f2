"""reproduce: row names, skipped, resumed, paused and failed rows, signals.

Most tests use a stub trainer, which writes a run directory and sleeps instead of training. A slow one runs
the real trainer.
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
from jaxnets.evaluation.predictions import Predictions, load_predictions, predictions_name
from jaxnets.experiment import evaluator, sweep, workdir
from jaxnets.experiment.sweep import State, finished_result
from studies import reproduce, runtime_estimate, sweeps

HARDWARE = "a test machine"
STEPS, IMAGES_PER_SECOND = 6, 100.0
RESULT = made_results.make_result(
    leakage={"test": 1.0}, tests={"clean": made_results.entry(0.5, interval=[0.4, 0.6])}
)
STUB = """
import ast, contextlib, json, os, pathlib, signal, sys, time
import ast, fcntl, hashlib, json, os, pathlib, signal, sys, time
from jaxnets import config as config_lib
from jaxnets.experiment import workdir

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
if plan.get("says"):
    print(plan["says"], file=sys.stderr)
if plan.get("dies"):
    os.kill(os.getpid(), plan["dies"])
if plan.get("exits"):
    sys.exit(plan["exits"])
split = "index,file,label,split,group\\n" + "0,a,b,train,\\n" * (STEPS * config.train.batch_size)
size = config.data.image_size
manifest = {{"command": "", "versions": {{}}, "hardware": HARDWARE, "git_commit": None, "data": "",
            "classes": [], "input_shape": [size, size, 3], "data_fingerprint": "",
            "split_sha256": hashlib.sha256(split.encode()).hexdigest()}}
contents = {{"config.json": config_lib.to_json(config), "split.csv": split}}
contents["manifest.json"] = json.dumps(manifest)
if not (folder / "config.json").exists():
    workdir.write_files(folder, contents)
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
    time.sleep(plan.get("sleeps", 0))
    step += 1
    with (folder / "metrics.jsonl").open("a") as metrics:
        metrics.write(json.dumps(line) + "\\n")
    if stopped and not plan.get("deaf"):
        (folder / "checkpoints" / f"{{step:010d}}").mkdir(parents=True)
        (folder / "checkpoints" / f"{{step:010d}}" / "manifest.json").write_text("{{}}")
        print(f"train.py: stopped at step {{step}}, saved", file=sys.stderr)
        sys.exit(128 + stopped[0])
result = json.loads({result!r}) | {{"images_per_second": SPEED, "hardware": HARDWARE}}
result |= {{"name": config.name, "model": config.model.name, "data": config.data.name,
           "seed": config.seed, "batch_size": config.train.batch_size}}
workdir.write_files(folder, {{"result.json": json.dumps(result)}}, final=("metrics.jsonl",))
"""


class Place:
    """A folder with a stub trainer, a table, runs and results."""

    def __init__(self, folder: Path, spec: str):
        self.folder, self.spec = folder, spec
        self.runs, self.results = folder / "runs", folder / "results"
        self.table = folder / "table.py"
        self.trainer = folder / "train.py"
        self.trainer.write_text(
            STUB.format(steps=STEPS, speed=IMAGES_PER_SECOND, hardware=HARDWARE, result=json.dumps(RESULT))
        )
        self.plan({})

    def plan(self, rows: dict[str, Any]) -> None:
        """Sets the stub's behaviour by row name."""
        (self.folder / "plan.json").write_text(json.dumps(rows))

    def rows(self, *rows: dict[str, Any]) -> None:
        """Writes the table."""
        entries = [{"config": self.spec, "overrides": {"train.epochs": 1}, **row} for row in rows]
        self.table.write_text(f"def get_rows():\n    return {entries!r}\n")

    def options(self, **more: Any) -> reproduce.Options:
        given: dict[str, Any] = {"patience": 0.2, "hardware": lambda: HARDWARE, **more}
        return reproduce.Options(self.runs, self.results, trainer=self.trainer, **given)

    def make(self, **more: Any) -> list[tuple[str, State]]:
        outcomes = reproduce.reproduce(str(self.table), self.options(**more))
        return [(outcome.row.name, outcome.state) for outcome in outcomes]

    @property
    def calls(self) -> list[str]:
        """Returns row name and first step of every start of the stub that trained."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.is_file() else []


@pytest.fixture
def place(tmp_path: Path, smoke_config: str) -> Place:
    return Place(tmp_path, smoke_config)


# Rows and names.


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
def test_the_name_of_a_row(place: Place, overrides: dict[str, Any], seed: int, name: str) -> None:
    place.rows({"overrides": overrides, "seed": seed})
    assert [row.name for row in sweeps.read_table(str(place.table))] == [name]


def test_a_name_does_not_depend_on_the_order_of_overrides(place: Place) -> None:
    overrides = {"data.image_size": 48, "train.epochs": 3, "model.width": 4}
    names = set()
    for keys in (list(overrides), list(reversed(overrides))):
        place.rows({"overrides": {key: overrides[key] for key in keys}})
        names |= {row.name for row in sweeps.read_table(str(place.table))}
    assert len(names) == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{}, {}], "rows 1 and 2 are both named"),
        ([{"overides": {}}], "unknown key 'overides' (did you mean overrides?)"),
        ([{"config": None}], "'config' must be a string"),
        ([{"seed": True}], "'seed' must be an integer"),
        ([{"seed": -1}], "--config.seed=-1 is out of range"),
        ([{"overrides": [1]}], "'overrides' must be a dict"),
        ([{"overrides": {"data.image_sise": 96}}], "unknown config field 'data.image_sise'"),
        ([{"overrides": {"data.image_size": "big"}}], "row 1"),
        ([{"overrides": {"train.batch_size": None}}], "not None"),
        ([{"overrides": {"seed": 3}}], "give the seed as 'seed'"),
        ([{"overrides": {"data.name": "auto"}}], "may fall back to synthetic tissue"),
        ([{"name": "../up"}], "is not a valid directory name"),
        ([{"name": "x" * 300}], "is not a valid directory name"),
        ([], "has no rows"),
    ],
)
def test_an_invalid_table_raises(place: Place, rows: list[dict[str, Any]], message: str) -> None:
    place.rows(*rows)
    with pytest.raises(ConfigError) as raised:
        place.make()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not place.runs.exists()


@pytest.mark.parametrize("text", ["x = 1\n", "def get_rows(:\n", "import no_such_module_here\n"])
def test_a_file_that_is_not_a_table_raises(place: Place, text: str) -> None:
    place.table.write_text(text)
    with pytest.raises(ConfigError, match="is not a table"):
        place.make()


def test_an_unknown_table_names_the_nearest(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    with pytest.raises(ConfigError, match=r"did you mean lung_resnet\?"):
        sweeps.read_table("lung_resnt")


def test_the_shipped_tables(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    rows = sweeps.read_table("lung_resnet")
    assert [row.name for row in rows] == ["lung_resnet-scratch-96px-s0", "lung_resnet-scratch-224px-s0"]
    assert [row.config.data.image_size for row in rows] == [96, 224]
    assert {(row.config.data.name, row.config.train.epochs) for row in rows} == {("lc25000_lung", 10)}
    for path in Path("configs/sweeps").glob("[!_]*.py"):
        assert sweeps.read_table(path.stem)


def test_stored_results_are_of_rows_of_the_tables(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    rows = [row for name in ("lung_resnet", "lung") for row in sweeps.read_table(name)]
    archived = {row.name: finished_result(Path("results") / row.name, row.config) for row in rows}
    assert archived["lung_resnet-scratch-96px-s0"] is not None
    for row in rows:
        result = archived[row.name]
        assert result is None or result["command"] == row.command(sweeps.RUNS)


# ml_collections imports config files by a method that Python means to drop.
@pytest.mark.filterwarnings("ignore:.*load_module:DeprecationWarning")
def test_the_flags_of_a_row_give_its_config(place: Place) -> None:
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
    place.rows({"overrides": overrides, "seed": 5})
    (row,) = sweeps.read_table(str(place.table))
    argv = ["train.py", *row.flags(Path("w"))]
    given = runner.parse_overrides(place.spec, argv)
    assert not config_lib.differences(config_lib.load_config(place.spec, given), row.config)


# What is done with rows.


def test_complete_rows_are_archived_and_skipped(place: Place) -> None:
    place.rows({"seed": 0}, {"seed": 1})
    first, second = (f"lung_resnet-smoke-epochs1-s{seed}" for seed in (0, 1))
    assert place.make() == [(first, State.COMPLETE), (second, State.COMPLETE)]
    assert place.make() == [(first, State.UP_TO_DATE), (second, State.UP_TO_DATE)]
    assert place.calls == [f"{first} 0", f"{second} 0"]

    archived = place.results / second
    files = {"checksums.json", "config.json", "metrics.jsonl", "result.json"}
    assert {path.name for path in archived.iterdir()} == files
    result = json.loads((archived / "result.json").read_text())
    assert result["overrides"] == ["train.epochs=1", "seed=1"]
    assert result["command"] == (
        f"python scripts/train.py --config={place.spec} --config.train.epochs=1 --config.seed=1 "
        f"--workdir=runs/{second}"
    )


def test_a_stored_result_or_a_finished_run_is_enough(place: Place) -> None:
    place.rows({})
    place.make()
    place.runs.rename(place.folder / "elsewhere")
    assert [state for _, state in place.make()] == [State.UP_TO_DATE]
    (place.folder / "elsewhere").rename(place.runs)
    place.results.rename(place.folder / "elsewhere")
    assert [state for _, state in place.make()] == [State.UP_TO_DATE]
    assert len(list(place.results.glob("*/result.json"))) == 1
    assert len(place.calls) == 1


def test_stored_results_have_no_data_paths(place: Place) -> None:
    free = {
        "data.cache_root": "/somewhere/private",
        "transfer.weights": "random",
        "transfer.pretrained_on": "ImageNet",
    }
    place.rows({"overrides": {"train.epochs": 1, **free}})
    ((name, _),) = place.make()
    archived = json.loads((place.results / name / "result.json").read_text())
    assert archived["pretrained_on"] == "ImageNet"
    assert "private" in (place.runs / name / workdir.CONFIG).read_text()
    assert "private" not in (place.results / name / workdir.CONFIG).read_text()


@pytest.mark.parametrize(("group", "are_archived"), [([5, 5, 8], True), ([5, 6, 8], False)])
def test_predictions_are_stored_if_test_examples_have_near_duplicates(
    place: Place, group: list[int], are_archived: bool
) -> None:
    place.rows({})
    ((name, _),) = place.make()
    answers = Predictions(
        index=np.arange(3),
        label=np.array([0, 1, 2], np.int32),
        probabilities=np.eye(3, dtype=np.float32),
        files=np.array(["a", "b", "c"]),
        group=np.array(group),
    )
    made_results.write_predictions(place.runs / name, answers)
    archived = place.results / name / predictions_name()
    archived.parent.mkdir()
    archived.write_text("of an earlier result")
    _remove_result(place.results / name)
    assert place.make() == [(name, State.UP_TO_DATE)]
    assert archived.is_file() == are_archived
    if are_archived:
        np.testing.assert_array_equal(load_predictions(archived).group, group)


def _remove_result(folder: Path) -> None:
    """Removes a stored result, so that it is copied again."""
    for name in ("checksums.json", "result.json"):
        (folder / name).unlink()


def test_a_result_of_another_config_raises(place: Place) -> None:
    place.rows({"name": "mine"})
    place.make()
    place.rows({"name": "mine", "overrides": {"train.epochs": 2}})
    with pytest.raises(CheckFailedError):
        place.make()
    (outcome,) = reproduce.list_rows(str(place.table), place.options())
    assert outcome.state is State.FAILED
    assert "train.epochs: 1 -> 2" in outcome.detail


def test_settings_of_pretrained_weights_are_not_a_difference(place: Place) -> None:
    """A run copies preprocessing and variant from its weights; the table does not contain them."""
    place.rows({"name": "from-weights", "overrides": {"transfer.weights": "somewhere"}})
    assert place.make() == [("from-weights", State.COMPLETE)]
    path = place.runs / "from-weights" / workdir.CONFIG
    config = json.loads(path.read_text())
    config["data"]["mean"] = [0.485, 0.456, 0.406]
    config["model"]["variant"] = "keras"
    workdir.write_files(path.parent, {path.name: json.dumps(config)})
    _remove_result(place.results / "from-weights")
    assert place.make() == [("from-weights", State.UP_TO_DATE)]
    assert place.make() == [("from-weights", State.UP_TO_DATE)]
    config["optimizer"]["learning_rate"] = 5.0
    (place.results / "from-weights" / workdir.CONFIG).write_text(json.dumps(config))
    (outcome,) = reproduce.list_rows(str(place.table), place.options())
    assert "config.json has changed since it was written" in outcome.detail
    (place.results / "from-weights" / "checksums.json").unlink()
    with pytest.raises(CheckFailedError):
        place.make()


def test_other_rows_run_after_a_failure(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    place.rows(*({"name": name} for name in ("missing", "killed", "silent", "good")))
    place.plan(
        {
            "missing": {"exits": 3, "says": "train.py: no lungs here: breathe"},
            "killed": {"dies": signal.SIGKILL},
            "silent": {"exits": 1},
        }
    )
    with pytest.raises(CheckFailedError, match="3 of 4 rows failed: missing, killed, silent;") as raised:
        place.make()
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

    place.plan({})
    assert [state for _, state in place.make()] == [State.COMPLETE] * 3 + [State.UP_TO_DATE]


def test_only_selects_rows(place: Place) -> None:
    place.rows({"name": "a1"}, {"name": "b1"}, {"name": "b2"})
    assert place.make(only=["b", "x"]) == [("b1", State.COMPLETE), ("b2", State.COMPLETE)]
    with pytest.raises(ConfigError, match="is in no row's name"):
        place.make(only=["x"])


def test_list_runs_and_writes_nothing(place: Place) -> None:
    place.rows({"name": "done"}, {"name": "new"})
    place.make(only=["done"])
    before = sorted(place.folder.rglob("*"))
    outcomes = reproduce.list_rows(str(place.table), place.options())
    assert [outcome.state for outcome in outcomes] == [State.UP_TO_DATE, State.PENDING]
    assert sorted(place.folder.rglob("*")) == before


# The budget.


def test_a_row_paused_by_the_budget_is_resumed(place: Place) -> None:
    place.rows({"name": "first"}, {"name": "second"})
    place.plan({"first": {"sleeps": 1}})
    assert place.make(budget=2.0) == [("first", State.PAUSED), ("second", State.SKIPPED)]
    step = sweep.saved_step(place.runs / "first")
    assert step is not None
    assert 0 < step < STEPS
    place.plan({})
    assert place.make(budget=60) == [("first", State.RESUMED), ("second", State.COMPLETE)]
    assert place.calls == ["first 0", f"first {step}", "second 0"]


def test_a_row_longer_than_the_budget_is_skipped(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.rows({"name": "known"}, {"name": "long", "overrides": {"train.epochs": 500}})
    # 500 epochs of three batches of 16 and of 13 images evaluated, at 100 and 300 images/s: 262 s.
    assert place.make(budget=30) == [("known", State.COMPLETE), ("long", State.SKIPPED)]
    message = capsys.readouterr().out
    assert "needs about 5 min (100 images/s), " in message
    assert "--budget=6 starts it" in message
    assert place.make(budget=30) == [("known", State.UP_TO_DATE), ("long", State.SKIPPED)]
    assert place.make(budget=3600)[1] == ("long", State.COMPLETE)


def test_a_started_row_is_resumed_whatever_its_estimate(place: Place) -> None:
    place.rows({"name": "known"}, {"name": "long", "overrides": {"train.epochs": 500}})
    saved = place.runs / "long" / "checkpoints" / f"{2:010d}"
    saved.mkdir(parents=True)
    (saved / "manifest.json").write_text("{}")
    assert place.make(budget=20) == [("known", State.COMPLETE), ("long", State.RESUMED)]


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
def test_the_estimate(place: Place, changes: dict[str, Any], hardware: str, seconds: float | None) -> None:
    place.rows({"name": "known"})
    place.make()
    known = runtime_estimate.measurements([place.runs, place.results])
    config = config_lib.load_config(place.spec, {"train.epochs": 1, "train.drop_last": False, **changes})
    run = place.folder / "run"
    run.mkdir()
    lines = "0,train\n" * 96 + "0,validation\n" * 45 + "0,test\n" * 60
    (run / "split.csv").write_text("index,split\n" + lines)
    config.train.batch_size = 10  # 96 examples make ten batches, the last one short
    estimate = runtime_estimate.estimate(config, run, known, hardware)
    expected = seconds and pytest.approx(runtime_estimate.START_SECONDS + seconds)
    assert (estimate and estimate.seconds) == expected
    basis = "" if estimate is None else estimate.basis
    assert ("extrapolated from 32 px" in basis) == (changes == {"data.image_size": 64})


def test_the_estimate_before_the_data_was_opened(place: Place) -> None:
    place.rows({"name": "known"})
    place.make()
    known = runtime_estimate.measurements([place.runs])
    config = config_lib.load_config(place.spec, {"data.num_examples": 100})
    estimate = runtime_estimate.estimate(config, place.folder / "none", known, HARDWARE)
    # 70, 15 and 15: two epochs of four batches of 16, three validations and a test.
    assert estimate is not None
    assert estimate.seconds == pytest.approx(runtime_estimate.START_SECONDS + (2 * 64 + 60 / 3) / 100)
    config.data.name, config.data.root = "lc25000_lung", str(place.folder)
    assert runtime_estimate.estimate(config, place.folder / "none", known, HARDWARE) is None


def test_head_only_speed_is_not_used_for_a_full_network(place: Place) -> None:
    place.rows({"name": "known"})
    place.make()
    path = place.runs / "known"
    frozen = {"transfer.weights": "random", "transfer.freeze_backbone": True, "data.num_examples": 100}
    plain = dict.fromkeys(("flip_horizontal", "flip_vertical", "right_angles"), False)
    frozen |= {f"augment.{name}": value for name, value in plain.items()}
    config = config_lib.load_config(place.spec, frozen)
    none = place.folder / "none"
    assert (
        runtime_estimate.estimate(config, none, runtime_estimate.measurements([place.runs]), HARDWARE) is None
    )
    result = json.loads((path / "result.json").read_text())
    result |= {"on_cached_features": True, "features_seconds": 7.0, "images_per_second": 100.0}
    workdir.write_files(path, {"config.json": config_lib.to_json(config), "result.json": json.dumps(result)})
    known = runtime_estimate.measurements([place.runs])
    seconds = (2 * 64 + 60 / 3) / 100
    for size, of_body in ((32, 7.0), (64, 28.0)):  # the head's steps see no pixels
        config.data.image_size = size
        estimate = runtime_estimate.estimate(config, none, known, HARDWARE)
        assert estimate is not None
        assert estimate.seconds == pytest.approx(runtime_estimate.START_SECONDS + seconds + of_body)
    open_body = config_lib.load_config(place.spec, {**frozen, "transfer.freeze_backbone": False})
    assert runtime_estimate.estimate(open_body, none, known, HARDWARE) is None


def test_the_newest_measurement_is_found_by_its_result(place: Place) -> None:
    place.rows({"name": "old"}, {"name": "new"})
    place.make()
    for name, speed, day in (("new", 50.0, 2), ("old", 900.0, 1)):  # the old one is written last
        path = place.runs / name / "result.json"
        message = {"images_per_second": speed, "finished": f"2026-01-0{day}T00:00:00+00:00"}
        result = {**json.loads(path.read_text()), **message}
        workdir.write_files(path.parent, {path.name: json.dumps(result)})
    config = config_lib.load_config(place.spec, {"train.epochs": 1})
    known = runtime_estimate.measurements([place.runs])
    estimate = runtime_estimate.estimate(config, place.folder / "none", known, HARDWARE)
    assert estimate is not None
    assert estimate.basis == "50 images/s"


def test_the_speed_of_a_run_is_the_median_of_its_lines() -> None:
    line = {"step": 1, "epoch": 1.0, "split": "train", "values": {}}
    lines: list[Any] = [{**line, "images_per_second": speed} for speed in (90.0, 0.1, 110.0, 100.0)]
    lines.insert(1, {**line, "split": "validation"})
    lines.append({**line, "images_per_second": "fast"})
    metrics = "".join(json.dumps(line) + "\n" for line in lines).encode() + b'{"step": \xff'
    assert evaluator.median_speed(metrics) == 95.0
    assert evaluator.median_speed(metrics, last=1) == 100.0
    assert evaluator.median_speed(b"") is None


def test_a_damaged_folder_has_no_measurement(place: Place) -> None:
    place.rows({"name": "known"})
    place.make()
    (place.runs / "known" / "result.json").write_text("{")
    (place.results / "known" / "config.json").write_text('{"no_such_field": 1}')
    assert runtime_estimate.measurements([place.runs, place.results, place.folder / "none"]) == []


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
def _driver(place: Place) -> Iterator[subprocess.Popen[str]]:
    path = place.folder / "driver.py"
    path.write_text(DRIVER.format(folder=str(place.folder)))
    # A platform that does not exist: whatever touched a device would fail.
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


def _await(condition: Callable[[], bool], seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM),
        pytest.param(signal.SIGINT, 128 + signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(
            signal.SIGKILL,
            -signal.SIGKILL,
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a child"),
            ],
        ),
    ],
)
def test_a_stopped_table_is_resumed(place: Place, number: int, code: int) -> None:
    place.rows({"name": "first"}, {"name": "second"}, {"name": "third"})
    place.plan({"second": {"sleeps": 0.5}})
    with _driver(place) as process:
        _await((place.runs / "second" / "started").exists)
        process.send_signal(number)
        assert process.wait(60) == code
        # The process gets a signal from us or from the kernel, saves and exits; nothing is left running.
        _await(lambda: sweep.saved_step(place.runs / "second") is not None)
    step = sweep.saved_step(place.runs / "second")
    assert step is not None
    assert step < STEPS
    assert [path.name for path in place.results.iterdir()] == ["first"]

    place.plan({})
    assert place.make(patience=60) == [
        ("first", State.UP_TO_DATE),
        ("second", State.RESUMED),
        ("third", State.COMPLETE),
    ]
    assert place.calls == ["first 0", "second 0", f"second {step}", "third 0"]


def test_a_signal_counts_even_if_archiving_fails(place: Place) -> None:
    place.rows({"name": "first"}, {"name": "second"})
    place.plan({"first": {"sleeps": 0.3, "deaf": True}})
    place.results.write_text("in the way")
    with _driver(place) as process:
        _await((place.runs / "first" / "started").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert (place.runs / "first" / "result.json").exists()
    assert not (place.runs / "second").exists()


def test_waiting_for_a_run_in_use_times_out(place: Place) -> None:
    place.rows({"name": "busy"}, {"name": "free"})
    with workdir.lock_workdir(place.runs / "busy"):
        standing = reproduce.list_rows(str(place.table), place.options())
        assert [outcome.state for outcome in standing] == [State.IN_USE, State.PENDING]
        with pytest.raises(CheckFailedError, match="1 of 2 rows failed: busy;"):
            place.make()
    assert place.make() == [("busy", State.COMPLETE), ("free", State.UP_TO_DATE)]


def test_another_process_that_saves_is_waited_for(place: Place) -> None:
    place.rows({"name": "busy"})
    program = (
        "import sys, time; from pathlib import Path; from jaxnets.experiment import workdir\n"
        "with workdir.lock_workdir(Path(sys.argv[1])): print('held', flush=True); time.sleep(0.5)"
    )
    words = [sys.executable, "-c", program, str(place.runs / "busy")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert place.make(patience=30) == [("busy", State.COMPLETE)]
        assert holder.wait() == 0


ASKS = """
import sys
from pathlib import Path
from jaxnets.experiment import sweep
print("asks", flush=True)
while True:
    sweep.is_in_use(Path(sys.argv[1]))
"""


def test_listing_does_not_stop_a_starting_run(place: Place) -> None:
    folder = place.runs / "starting"
    with workdir.lock_workdir(folder):
        pass
    with subprocess.Popen([sys.executable, "-c", ASKS, str(folder)], stdout=subprocess.PIPE) as lister:
        assert lister.stdout is not None
        assert lister.stdout.readline() == b"asks\n"
        try:
            for _ in range(3000):
                with workdir.lock_workdir(folder):
                    pass
            assert lister.poll() is None
        finally:
            lister.kill()


def test_common_flags_are_passed_to_the_runs(place: Place, repository: Path) -> None:
    given = {
        "traceback": "--traceback",
        "keep_freed_memory": "--nokeep_freed_memory",
        "kernels": "--nokernels",
        "kernels_folder": "--kernels_folder=k",
        "compilation_cache": "--compilation_cache=none",
    }
    of_every_script = {flag.name for flag in flags.FLAGS.flags_by_module_dict()[runner.__name__]}
    assert of_every_script >= given.keys()
    place.rows({"name": "a"})
    program = (
        "import runpy, sys; from studies import reproduce\n"
        "reproduce.reproduce = lambda table, options: print(*options.train_flags)\n"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", program, "scripts/reproduce.py", str(place.table)),
            *(*given.values(), "--allow_nondeterministic_resume"),
        ],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted([*given.values(), "--allow_nondeterministic_resume"])


# The real thing.


@pytest.mark.slow
def test_the_script_runs_a_row(place: Place, repository: Path, smoke_overrides: dict[str, Any]) -> None:
    place.rows({"name": "real", "overrides": {**smoke_overrides, "train.epochs": 1}, "seed": 3})
    flags = [f"--runs={place.runs}", f"--results={place.results}", "--budget=10"]
    command = [sys.executable, "scripts/reproduce.py", str(place.table), *flags]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("real  complete ")
    result = json.loads((place.results / "real" / "result.json").read_text())
    assert (result["seed"], result["model"], result["complete"]) == (3, "lenet5", True)
    assert (place.results / "real" / "metrics.jsonl").read_text().count("\n") >= 2
    (standing,) = reproduce.list_rows(str(place.table), place.options())
    assert standing.state is State.UP_TO_DATE


def test_the_script_exits_with_2_for_a_wrong_command(repository: Path) -> None:
    command = [sys.executable, "scripts/reproduce.py", "smoky", "--list"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "reproduce.py: no table 'smoky' (did you mean smoke?); there are " in done.stderr
