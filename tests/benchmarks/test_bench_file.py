"""The bench file: format, merging, refusals."""

import datetime
import json
from pathlib import Path

import pytest

from benchmarks import bench_file
from benchmarks.measure import summary
from jaxnets.errors import ConfigError, MachineError

KEYS = {"name", "ours", "theirs", "ratio", "ratio_tuned", "range", "rounds"}
VERSIONS = {"jax": "0.10.2"}


def row(name: str, ours: float = 2.0) -> dict:
    return summary(name, {"ours": [ours] * 5, "contiguous": [1.0] * 5})


def test_the_file_has_the_documented_form(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "bench.json"
    bench_file.add_row(path, "2 cores", VERSIONS, row("train/a"))
    content = json.loads(path.read_text())
    assert content.keys() == {"machine", "versions", "rows"}
    assert (content["machine"], content["versions"]) == ("2 cores", VERSIONS)
    (only,) = content["rows"]
    assert only.keys() >= KEYS
    assert (only["ratio"], only["range"], only["rounds"]) == (2.0, [2.0, 2.0], 5)
    assert [file.name for file in path.parent.iterdir()] == ["bench.json"]


def test_rows_of_a_day_come_together_by_name(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    bench_file.add_row(path, "2 cores", VERSIONS, row("train/a"))
    bench_file.add_row(path, "2 cores", VERSIONS, row("train/b"))
    bench_file.add_row(path, "2 cores", {**VERSIONS, "torch": "2.13.0"}, row("train/a", 3.0))
    content = json.loads(path.read_text())
    assert [(r["name"], r["ours"]) for r in content["rows"]] == [("train/a", 3.0), ("train/b", 2.0)]
    assert content["versions"] == {"jax": "0.10.2", "torch": "2.13.0"}


def test_rows_of_one_thing_take_the_place_of_its_failure(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    bench_file.add_rows(path, "2 cores", VERSIONS, "a", [{"name": "a", "failed": "no memory"}])
    bench_file.add_row(path, "2 cores", VERSIONS, row("a/other"))
    bench_file.add_rows(path, "2 cores", VERSIONS, "a", [row("a/forward"), row("a/backward")])
    rows = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in rows] == ["a/other", "a/forward", "a/backward"]
    assert bench_file.measured(path).keys() == {"a", "a/other"}


@pytest.mark.parametrize(("machine", "jax"), [("4 cores", "0.10.2"), ("2 cores", "0.11.0")])
def test_other_conditions_are_not_mixed_in(tmp_path: Path, machine: str, jax: str) -> None:
    path = tmp_path / "bench.json"
    bench_file.add_row(path, "2 cores", VERSIONS, row("train/a"))
    before = path.read_text()
    with pytest.raises(ConfigError, match="choose another --output"):
        bench_file.add_row(path, machine, {"jax": jax}, row("train/b"))
    assert path.read_text() == before


@pytest.mark.parametrize("text", ["", "[]", '{"rows": 1}', '{"machine": "x"}', '{"rows": []}'])
def test_another_file_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="not a bench file"):
        bench_file.add_row(path, "2 cores", VERSIONS, row("train/a"))
    assert path.read_text() == text


def test_a_file_that_cannot_be_used_is_seen_before_anything_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.json"
    bench_file.require_usable(path, "2 cores", VERSIONS)
    assert not list(path.parent.iterdir())
    bench_file.add_row(path, "2 cores", VERSIONS, row("train/a"))
    bench_file.require_usable(path, "2 cores", VERSIONS)
    with pytest.raises(ConfigError, match="choose another --output"):
        bench_file.require_usable(path, "4 cores", VERSIONS)
    with pytest.raises(MachineError, match="cannot be written"):
        bench_file.require_usable(path / "below.json", "2 cores", VERSIONS)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        bench_file.add_row(tmp_path / "file" / "bench.json", "2 cores", VERSIONS, row("train/a"))


def test_the_name_says_machine_suite_and_day() -> None:
    path = bench_file.default_path("2 cores of AMD EPYC 7R13", "training", datetime.date(2025, 1, 2))
    assert path == Path("results/bench/2-cores-of-amd-epyc-7r13-training-2025-01-02.json")


def test_the_newest_file_is_gone_on_with_if_it_is_of_the_same_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_file, "FOLDER", tmp_path)
    assert bench_file.newest("2 cores", "ops", {"jax": "1"}) is None
    for day in (3, 4):
        path = bench_file.default_path("2 cores", "ops", datetime.date(2026, 1, day))
        bench_file.add_row(path, "2 cores", {"jax": "1"}, {"name": "a"})
    assert bench_file.newest("2 cores", "ops", {"jax": "1"}) == path
    assert bench_file.newest("2 cores", "ops", {"jax": "2"}) is None
    assert bench_file.newest("2 cores", "growth", {"jax": "1"}) is None
