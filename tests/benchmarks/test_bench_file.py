"""Bench files: format, merging, errors."""

import datetime
import json
from pathlib import Path

import pytest

from benchmarks import bench_file
from benchmarks.measure import summarize
from benchmarks.schema import BenchRow, Machine
from jaxnets.errors import ConfigError, MachineError

KEYS = {"name", "ours", "baseline", "ratio", "ratio_eager", "ratio_eager_tuned", "range", "rounds"}
VERSIONS = {"jax": "0.10.2"}
MACHINE: Machine = {"machine": "2 cores", "versions": VERSIONS}


def row(name: str, ours: float = 2.0) -> BenchRow:
    return summarize(name, {"ours": [ours] * 5, "PyTorch": [1.0] * 5})


def add(path: Path, row: BenchRow, versions: dict[str, str] = VERSIONS, machine: str = "2 cores") -> None:
    bench_file.add_rows(path, {"machine": machine, "versions": versions}, row["name"], [row])


def test_the_file_has_the_documented_format(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "bench.json"
    add(path, row("train/a"))
    content = json.loads(path.read_text())
    assert content.keys() == {"machine", "versions", "rows"}
    assert (content["machine"], content["versions"]) == ("2 cores", VERSIONS)
    (only,) = content["rows"]
    assert only.keys() >= KEYS
    assert (only["ratio"], only["range"], only["rounds"]) == (2.0, [2.0, 2.0], 5)
    assert [file.name for file in path.parent.iterdir()] == ["bench.json"]


def test_a_row_replaces_the_one_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    add(path, row("train/a"))
    add(path, row("train/b"))
    add(path, row("train/a", 3.0), {**VERSIONS, "torch": "2.13.0"})
    content = json.loads(path.read_text())
    assert [(r["name"], r["ours"]) for r in content["rows"]] == [("train/a", 3.0), ("train/b", 2.0)]
    assert content["versions"] == {"jax": "0.10.2", "torch": "2.13.0"}


def test_rows_of_a_measurement_replace_its_failure(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    bench_file.add_rows(path, MACHINE, "a", [{"name": "a", "failed": "no memory"}])
    add(path, row("a/other"))
    bench_file.add_rows(path, MACHINE, "a", [row("a/forward"), row("a/backward")])
    rows = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in rows] == ["a/other", "a/forward", "a/backward"]
    assert bench_file.read_conditions(path).keys() == {"a", "a/other"}


@pytest.mark.parametrize(("machine", "jax"), [("4 cores", "0.10.2"), ("2 cores", "0.11.0")])
def test_rows_of_other_machines_and_versions_are_rejected(tmp_path: Path, machine: str, jax: str) -> None:
    path = tmp_path / "bench.json"
    add(path, row("train/a"))
    before = path.read_text()
    with pytest.raises(ConfigError, match="choose another --output"):
        add(path, row("train/b"), {"jax": jax}, machine)
    assert path.read_text() == before


@pytest.mark.parametrize("text", ["", "[]", '{"rows": 1}', '{"machine": "x"}', '{"rows": []}'])
def test_a_file_that_is_not_a_bench_file_is_not_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="not a bench file"):
        add(path, row("train/a"))
    assert path.read_text() == text


def test_an_unusable_file_is_found_before_measuring(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.json"
    bench_file.check_usable(path, MACHINE)
    assert not list(path.parent.iterdir())
    add(path, row("train/a"))
    bench_file.check_usable(path, MACHINE)
    with pytest.raises(ConfigError, match="choose another --output"):
        bench_file.check_usable(path, {"machine": "4 cores", "versions": VERSIONS})
    with pytest.raises(MachineError, match="cannot be written"):
        bench_file.check_usable(path / "below.json", MACHINE)


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        add(tmp_path / "file" / "bench.json", row("train/a"))


def test_the_name_has_machine_suite_and_date() -> None:
    path = bench_file.default_path({"machine": "2 cores of AMD EPYC 7R13", "versions": {}}, "training")
    today = datetime.date.today().isoformat()
    assert path == Path(f"results/bench/2-cores-of-amd-epyc-7r13-training-{today}.json")


def test_the_newest_file_with_the_same_versions_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_file, "FOLDER", tmp_path)
    today = bench_file.default_path(MACHINE, "ops", resume=True)
    for day in (3, 4):
        newest = tmp_path / f"2-cores-ops-2026-01-0{day}.json"
        add(newest, {"name": "a"})
    assert bench_file.default_path(MACHINE, "ops", resume=True) == newest
    assert bench_file.default_path(MACHINE, "ops") == today
    other: Machine = {"machine": "2 cores", "versions": {"jax": "2"}}
    assert bench_file.default_path(other, "ops", resume=True) == today
    assert bench_file.default_path(MACHINE, "growth", resume=True).name.startswith("2-cores-growth-")
