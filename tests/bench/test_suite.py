"""A suite from end to end, on sides that measure nothing."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jaxnets.bench import rows, suite
from jaxnets.bench.measure import Row, summary
from jaxnets.errors import CheckFailedError, ConfigError

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
    def setting(*_: Any) -> Iterator[rows.Setting]:
        yield rows.Setting(threads=2)

    fakes = {
        name: lambda name, setting: Row(
            name, name, int, {"contiguous": int}, needs_torch=name != "train/b"
        )
        for name in NAMES
    }
    monkeypatch.setattr(rows, "ROWS", {"training": fakes, "pipeline": {"pipeline/c": None}})
    monkeypatch.setattr(rows, "setting", setting)
    monkeypatch.setattr(suite, "measure_row", fake)
    monkeypatch.setattr(suite, "busy_share", lambda: 0.0)
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


def test_what_was_measured_stays_when_a_later_row_is_refused(
    tmp_path: Path, measured: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = suite.measure_row

    def refuse_the_second(row: Row, **options: Any) -> dict[str, Any]:
        if row.name == "train/b":
            raise CheckFailedError("train/b is not measured")
        return fake(row, **options)

    monkeypatch.setattr(suite, "measure_row", refuse_the_second)
    path = tmp_path / "bench.json"
    with pytest.raises(CheckFailedError) as refusal:
        suite.run("training", suite.Options(output=path))
    assert refusal.value.exit_code == 7
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == ["train/a"]


@pytest.mark.parametrize(
    ("with_torch", "names", "told"), [(False, (), "needs PyTorch"), (True, ("x",), "no rows")]
)
def test_drift_says_what_it_lacks(
    with_torch: bool, names: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "has_torch", lambda: with_torch)
    with pytest.raises(ConfigError, match=told):
        suite.run("drift", suite.Options(rows=names))


def test_a_busy_machine_is_told(
    tmp_path: Path, measured: list, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(suite, "busy_share", lambda: 0.5)
    path = tmp_path / "bench.json"
    suite.run("training", suite.Options(rows=("train/a",), output=path))
    assert "other processes use 50% of the cores" in capsys.readouterr().out
    assert json.loads(path.read_text())["rows"][0]["busy_before"] == 0.5


def test_the_share_in_use_is_a_share() -> None:
    share = suite.busy_share(0.1)
    assert share is None or 0 <= share <= 1
