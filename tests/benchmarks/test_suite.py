"""A suite from end to end, on sides that measure nothing."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import environment, rows, suite
from benchmarks.measure import Row, summary
from jaxnets.errors import CheckFailedError, ConfigError, InterruptedRunError

NAMES = ["train/a", "train/b"]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The rows that were measured, and how; nothing is."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def fake(row: Row, **options: Any) -> dict[str, Any]:
        calls.append((row.name, options))
        sides = {"ours": [2.0] * options["rounds"]}
        if options["with_theirs"]:
            sides["contiguous"] = [1.0] * options["rounds"]
        return {**summary(row.name, sides), "unit": row.unit}

    @contextlib.contextmanager
    def setting(*_: Any) -> Iterator[rows.BenchContext]:
        yield rows.BenchContext(threads=2)

    fakes = {
        name: lambda name, setting: Row(name, name, int, {"contiguous": int}, needs_torch=name != "train/b")
        for name in NAMES
    }
    monkeypatch.setattr(rows, "ROWS", {"training": fakes, "pipeline": {"pipeline/c": None}})
    monkeypatch.setattr(rows, "setting", setting)
    monkeypatch.setattr(suite, "measure_row", fake)
    monkeypatch.setattr(environment, "busy_share", lambda: 0.0)
    monkeypatch.setattr(suite, "describe", lambda: ("2 cores", {"jax": "0.10.2"}))
    monkeypatch.setattr(suite, "has_torch", lambda: True)
    return calls


def test_rows_are_measured_and_written(tmp_path: Path, measured: list, capsys: Any) -> None:
    path = tmp_path / "bench.json"
    found = suite.run("training", suite.Options(rounds=6, seconds=0.5, output=path))
    assert found == path
    assert [name for name, _ in measured] == NAMES
    assert measured[0][1] == {
        "rounds": 6,
        "seconds": 0.5,
        "with_theirs": True,
        "kernels": None,
    }
    content = json.loads(path.read_text())
    assert [row["name"] for row in content["rows"]] == NAMES
    assert "train/a: ours 2 images/s, contiguous 1 images/s: ratio 2.00" in capsys.readouterr().out


def test_what_is_counted_is_told(
    tmp_path: Path, measured: list, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    make = lambda name, setting: Row(name, "MLP", int, {"eager": int}, unit="points")  # noqa: E731
    monkeypatch.setattr(rows, "ROWS", {"training": {"train/mlp": make}})
    suite.run("training", suite.Options(output=tmp_path / "bench.json"))
    assert "train/mlp: ours 2 points/s" in capsys.readouterr().out
    assert json.loads((tmp_path / "bench.json").read_text())["rows"][0]["unit"] == "points"


def test_a_row_is_chosen_by_name(tmp_path: Path, measured: list) -> None:
    suite.run("training", suite.Options(rows=("train/b",), output=tmp_path / "bench.json"))
    assert [name for name, _ in measured] == ["train/b"]


@pytest.mark.parametrize(
    ("name", "hint"), [("train/aa", "did you mean train/a?"), ("pipeline/c", "--suite=pipeline")]
)
def test_an_unknown_row_is_refused_before_anything_is_done(
    name: str, hint: str, tmp_path: Path, measured: list
) -> None:
    with pytest.raises(ConfigError, match=hint) as refusal:
        suite.run("training", suite.Options(rows=("train/a", name), output=tmp_path / "b.json"))
    assert refusal.value.exit_code == 2
    assert not measured
    assert not list(tmp_path.iterdir())


def test_without_pytorch_ours_is_measured_and_it_is_said(
    tmp_path: Path, measured: list, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(suite, "has_torch", lambda: False)
    path = tmp_path / "bench.json"
    suite.run("training", suite.Options(output=path))
    assert [options["with_theirs"] for _, options in measured] == [False, True]
    first, second = json.loads(path.read_text())["rows"]
    assert (first["theirs"], first["ratio"]) == (None, None)
    assert second["ratio"] == 2.0  # ours against ours needs no PyTorch
    assert "PyTorch is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("error", [CheckFailedError("it differs"), RuntimeError("it differs")])
def test_a_row_that_fails_does_not_keep_others_from_being_measured(
    tmp_path: Path,
    measured: list,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    error: Exception,
) -> None:
    fake = suite.measure_row

    def refuse_the_first(row: Row, **options: Any) -> dict[str, Any]:
        if row.name == "train/a":
            raise error
        return fake(row, **options)

    monkeypatch.setattr(suite, "measure_row", refuse_the_first)
    path = tmp_path / "bench.json"
    with pytest.raises(CheckFailedError, match="1 of 2 rows could not be measured: train/a"):
        suite.run("training", suite.Options(output=path))
    assert "train/a: it differs" in capsys.readouterr().out
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == ["train/b"]
    with pytest.raises(type(error), match="it differs"):
        suite.run("training", suite.Options(rows=("train/a",), output=path))


def test_a_signal_ends_the_suite(tmp_path: Path, measured: list, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(row: Row, **_: Any) -> dict[str, Any]:
        begun.append(row.name)
        raise InterruptedRunError("stopped by SIGTERM", 15)

    begun: list[str] = []
    monkeypatch.setattr(suite, "measure_row", stop)
    with pytest.raises(InterruptedRunError):
        suite.run("training", suite.Options(output=tmp_path / "bench.json"))
    assert begun == ["train/a"]


@pytest.mark.parametrize(
    ("suite_name", "options"),
    [
        ("training", {"budget": 5.0}),
        ("training", {"dry_run": True}),
        ("training", {"images": Path("/")}),
        ("pipeline", {"images": Path("/nowhere")}),
    ],
)
def test_options_that_mean_nothing_are_refused(
    measured: list, suite_name: str, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        suite.run(suite_name, suite.Options(**options))
    assert not measured


@pytest.mark.parametrize(
    ("with_torch", "names", "message"), [(False, (), "needs PyTorch"), (True, ("x",), "no rows")]
)
def test_drift_says_what_it_lacks(
    with_torch: bool, names: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "has_torch", lambda: with_torch)
    with pytest.raises(ConfigError, match=message):
        suite.run("drift", suite.Options(rows=names))


def test_a_busy_machine_is_told(
    tmp_path: Path, measured: list, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(environment, "busy_share", lambda: 0.5)
    path = tmp_path / "bench.json"
    suite.run("training", suite.Options(rows=("train/a",), output=path))
    assert "other processes use 50% of the cores" in capsys.readouterr().out
    assert json.loads(path.read_text())["rows"][0]["busy_before"] == 0.5


def test_the_share_in_use_is_a_share() -> None:
    share = environment.busy_share(0.1)
    if Path("/proc/stat").exists():
        assert share is not None
        assert 0 <= share <= 1
    else:
        assert share is None
