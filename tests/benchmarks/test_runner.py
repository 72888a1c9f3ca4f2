"""Budgets and resuming of suites."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import conditions
from benchmarks.measure import summarize
from benchmarks.runner import measure_suite
from benchmarks.schema import BenchRow, Machine
from jaxnets.errors import CheckFailedError

MACHINE: Machine = {"machine": "one GPU", "versions": {}}


@pytest.fixture(autouse=True)
def idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the measurement of the background load, which takes a second."""
    monkeypatch.setattr(conditions, "background_load", lambda: 0.0)


@pytest.fixture
def measured() -> list[str]:
    """Names of the measured rows."""
    return []


@pytest.fixture
def fake(measured: list[str]) -> Callable[..., Callable[[], list[BenchRow]]]:
    """Makes functions that return rows without measuring."""

    def make(name: str, *rows: str) -> Callable[[], list[BenchRow]]:
        def measure() -> list[BenchRow]:
            measured.append(name)
            return [summarize(row, {"ours": [1.0]}) for row in rows or (name,)]

        return measure

    return make


def test_a_suite_is_resumed(tmp_path: Path, fake: Callable, measured: list[str]) -> None:
    path = tmp_path / "bench.json"
    suite = {"a": fake("a"), "b": fake("b", "b/forward", "b/backward"), "c": fake("c")}
    measure_suite({"a": suite["a"]}, path, MACHINE)
    measure_suite(suite, path, MACHINE, budget=0.0)
    assert measured == ["a"]
    for _ in range(2):
        measure_suite(suite, path, MACHINE, budget=10.0)
        assert measured == ["a", "b", "c"]
    rows = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in rows] == ["a", "b/forward", "b/backward", "c"]
    assert all(row["code"] == conditions.code_version() for row in rows)
    assert {row["machine"] for row in rows} == {MACHINE["machine"]}


def test_rows_of_other_code_are_measured_again(
    tmp_path: Path,
    fake: Callable,
    measured: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, suite = tmp_path / "bench.json", {"a": fake("a")}
    for version in ("one", "one", "other"):
        monkeypatch.setattr(conditions, "code_version", lambda version=version: version)
        measure_suite(suite, path, MACHINE, budget=9.0)
    assert measured == ["a", "a"]
    measure_suite(suite, path, MACHINE, budget=9.0, kernels=tmp_path / "kernels.so")
    assert measured == ["a", "a", "a"]
    assert "other code or kernels gave a: measured again" in capsys.readouterr().out


def test_a_failure_is_stored_with_a_budget(
    tmp_path: Path, fake: Callable, measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> list[BenchRow]:
        measured.append("a")
        raise CheckFailedError("no memory")

    path, suite = tmp_path / "bench.json", {"a": fail, "b": fake("b")}
    with pytest.raises(CheckFailedError, match="1 of 2 rows could not be measured: a"):
        measure_suite(suite, path, MACHINE, budget=9.0)
    assert json.loads(path.read_text())["rows"][0]["failed"] == "no memory"
    measure_suite(suite, path, MACHINE, budget=9.0)
    assert measured == ["a", "b"]
    assert "--rows=a without --budget tries it again" in capsys.readouterr().out
