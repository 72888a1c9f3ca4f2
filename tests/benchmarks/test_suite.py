"""Runs suites of fake comparisons."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import comparisons, conditions, runner, suite
from benchmarks.baselines import Baseline
from benchmarks.measure import Comparison, summarize
from benchmarks.schema import BenchRow
from jaxnets.errors import CheckFailedError, ConfigError, InterruptedRunError

NAMES = ["train/a", "train/b"]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The names of the measured rows and the options; `measure_row` is replaced."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def fake(comparison: Comparison, **options: Any) -> BenchRow:
        calls.append((comparison.name, options))
        speeds = {"ours": [2.0] * options["rounds"]}
        if options["with_baselines"]:
            speeds["PyTorch"] = [1.0] * options["rounds"]
        return {**summarize(comparison.name, speeds), "unit": comparison.unit}

    @contextlib.contextmanager
    def images(*_: Any) -> Iterator[Path]:
        yield Path("images")

    makers = {
        name: lambda name, context: Comparison(
            name, name, int, {"PyTorch": Baseline(int, False)}, needs_torch=name != "train/b"
        )
        for name in NAMES
    }
    monkeypatch.setattr(comparisons, "SUITES", {"training": makers, "pipeline": {"pipeline/c": None}})
    monkeypatch.setattr(comparisons, "pipeline_images", images)
    monkeypatch.setattr(suite, "measure_row", fake)
    monkeypatch.setattr(conditions, "background_load", lambda: 0.0)
    monkeypatch.setattr(
        suite, "describe_machine", lambda: {"machine": "2 cores", "versions": {"jax": "0.10.2"}}
    )
    monkeypatch.setattr(suite, "has_torch", lambda: True)
    return calls


def test_rows_are_measured_and_written(tmp_path: Path, measured: list, capsys: Any) -> None:
    path = tmp_path / "bench.json"
    assert suite.run("training", suite.Options(rounds=6, seconds=0.5, output=path)) == path
    assert [name for name, _ in measured] == NAMES
    assert measured[0][1] == {"rounds": 6, "seconds": 0.5, "with_baselines": True, "kernels": None}
    content = json.loads(path.read_text())
    assert [row["name"] for row in content["rows"]] == NAMES
    assert "train/a: ours 2 images/s, PyTorch 1 images/s: ratio 2.00" in capsys.readouterr().out


def test_the_unit_is_printed(
    tmp_path: Path, measured: list, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def make(name: str, context: Any) -> Comparison:
        return Comparison(name, "MLP", int, {"PyTorch": Baseline(int, False)}, unit="points")

    monkeypatch.setattr(comparisons, "SUITES", {"training": {"train/mlp": make}})
    suite.run("training", suite.Options(output=tmp_path / "bench.json"))
    assert "train/mlp: ours 2 points/s" in capsys.readouterr().out
    assert json.loads((tmp_path / "bench.json").read_text())["rows"][0]["unit"] == "points"


def test_a_row_is_selected_by_name(tmp_path: Path, measured: list) -> None:
    suite.run("training", suite.Options(rows=("train/b",), output=tmp_path / "bench.json"))
    assert [name for name, _ in measured] == ["train/b"]


@pytest.mark.parametrize(
    ("name", "hint"), [("train/aa", "did you mean train/a?"), ("pipeline/c", "--suite=pipeline")]
)
def test_an_unknown_row_raises_before_anything_is_done(
    name: str, hint: str, tmp_path: Path, measured: list
) -> None:
    with pytest.raises(ConfigError, match=hint) as error:
        suite.run("training", suite.Options(rows=("train/a", name), output=tmp_path / "b.json"))
    assert error.value.exit_code == 2
    assert not measured
    assert not list(tmp_path.iterdir())


def test_without_pytorch_only_jaxnets_is_measured(
    tmp_path: Path, measured: list, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for module in (suite, runner):
        monkeypatch.setattr(module, "has_torch", lambda: False)
    path = tmp_path / "bench.json"
    suite.run("training", suite.Options(output=path))
    assert [options["with_baselines"] for _, options in measured] == [False, True]
    first, second = json.loads(path.read_text())["rows"]
    assert (first["theirs"], first["ratio"]) == (None, None)
    assert second["ratio"] == 2.0  # a jaxnets baseline needs no PyTorch
    assert "PyTorch is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("error", [CheckFailedError("it differs"), RuntimeError("it differs")])
def test_the_next_row_is_measured_after_a_failure(
    tmp_path: Path, measured: list, monkeypatch: pytest.MonkeyPatch, capsys: Any, error: Exception
) -> None:
    fake = suite.measure_row

    def fail_the_first(comparison: Comparison, **options: Any) -> BenchRow:
        if comparison.name == "train/a":
            raise error
        return fake(comparison, **options)

    monkeypatch.setattr(suite, "measure_row", fail_the_first)
    path = tmp_path / "bench.json"
    with pytest.raises(CheckFailedError, match="1 of 2 rows could not be measured: train/a"):
        suite.run("training", suite.Options(output=path))
    assert "train/a: it differs" in capsys.readouterr().out
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == ["train/b"]
    with pytest.raises(type(error), match="it differs"):
        suite.run("training", suite.Options(rows=("train/a",), output=path))


def test_a_signal_ends_the_suite(tmp_path: Path, measured: list, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(comparison: Comparison, **_: Any) -> BenchRow:
        started.append(comparison.name)
        raise InterruptedRunError("stopped by SIGTERM", 15)

    started: list[str] = []
    monkeypatch.setattr(suite, "measure_row", stop)
    with pytest.raises(InterruptedRunError):
        suite.run("training", suite.Options(output=tmp_path / "bench.json"))
    assert started == ["train/a"]


@pytest.mark.parametrize(
    ("suite_name", "options"),
    [
        ("training", {"budget": 5.0}),
        ("training", {"dry_run": True}),
        ("training", {"baselines": ("eager",)}),
        ("cpu", {"baselines": ("eagre",)}),
        ("training", {"images": Path("/")}),
        ("pipeline", {"images": Path("/nowhere")}),
    ],
)
def test_options_of_other_suites_raise(measured: list, suite_name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        suite.run(suite_name, suite.Options(**options))
    assert not measured


@pytest.mark.parametrize(
    ("with_torch", "names", "message"), [(False, (), "needs PyTorch"), (True, ("x",), "no rows")]
)
def test_drift_needs_pytorch_and_has_no_rows(
    with_torch: bool, names: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "has_torch", lambda: with_torch)
    with pytest.raises(ConfigError, match=message):
        suite.run("drift", suite.Options(rows=names))


def test_a_busy_machine_gives_a_warning(
    tmp_path: Path, measured: list, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(conditions, "background_load", lambda: 0.5)
    path = tmp_path / "bench.json"
    suite.run("training", suite.Options(rows=("train/a",), output=path))
    assert "other processes use 50% of the cores" in capsys.readouterr().err
    assert json.loads(path.read_text())["rows"][0]["busy_before"] == 0.5


def test_background_load_is_a_fraction() -> None:
    load = conditions.background_load(0.1)
    if Path("/proc/stat").exists():
        assert load is not None
        assert 0 <= load <= 1
    else:
        assert load is None
