"""The page of the benchmark of duplicate finders."""

import json
from pathlib import Path
from typing import Any

import pytest

from studies.pages import duplicates_page
from studies.pages.markdown import NOT_MEASURED


def _entry(f1: float, rand: float) -> dict[str, Any]:
    pairs = {"reported": 10, "precision": 1.0, "recall": 0.5, "f1": f1}
    groups = {
        "adjusted_rand": rand,
        "b_cubed_precision": 1.0,
        "b_cubed_recall": 0.5,
        "b_cubed_f1": 2 / 3,
        "groups": 3,
        "largest": 2,
    }
    return {"pairs": pairs, "groups": groups, "intervals": {"f1": [f1 - 0.1, f1 + 0.1]}}


def _row(f1: float, rand: float, setting: str) -> dict[str, Any]:
    measured = {setting: _entry(f1, rand)}
    if setting == "tuned":
        measured[setting] |= {"average_precision": 0.25, "curve": [[0.5, 1.0], [1.0, 0.25]]}
    disputed = {"human": [1, 2], "originals": [0, 3], "groups": [4, 5]}
    return _all_sets(measured, {"disputed": {setting: disputed}, "across_classes": {setting: 4}})


def _all_sets(measured: dict[str, Any], of_lung: dict[str, Any]) -> dict[str, Any]:
    lung = {truth: measured for truth in ("human", "originals", "groups")}
    return {
        "published": {"copies": measured},
        "harder": {"copies": measured},
        "photographs": {"copies": measured},
        "mnist": {"copies": measured},
        "lung": {**lung, **of_lung},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """PHash has the better pairs, our groups the better splits and groups, and a network failed."""
    run = {"version": "1.0", "processor_seconds": 7.0, "peak_memory": 2**30, "failed": None}
    failed = {"default": {"failed": "no weights"}}
    scores = {
        "phash": _row(0.9, 0.2, "tuned"),
        "cnn": _all_sets(failed, {"disputed": failed, "across_classes": failed}),
        "jaxnets_originals": _row(0.6, 0.5, "default"),
        "jaxnets_groups": _row(0.8, 0.7, "default"),
    }
    leaks = {"random split": 1.0, "human": 0.0, "phash": 0.3, "jaxnets_originals": 0.2, "jaxnets_groups": 0.1}
    entries = {
        row: {"leakage": dict.fromkeys(("human", "groups", "copies"), leak), "accuracy": 0.9}
        | {"accuracy_deviation": 0.01, "test_fraction": 0.1 if row == "phash" else 0.15}
        for row, leak in leaks.items()
    }
    entries["cnn"] = {"failed": "no weights"}
    choice = lambda setting, threshold=None: {"setting": setting, "threshold": threshold}  # noqa: E731
    none = {"pairs": choice(""), "groups": choice("")}
    no_weights = {**run, "version": "", "failed": "no weights"}
    content = {
        "photographs": {"used": 50, "all": 717, "seed": 0},
        "sets": {name: {"images": 1000, "groups": {"copies": 50}} for name in duplicates_page.TITLES}
        | {"lung": {"images": 1000, "groups": {"human": 40, "originals": 60, "groups": 50}}},
        "finders": {
            "phash": {"title": "pHash", "setting": "8", "settings": ["9", "10"], "about": "64 bits"},
            "cnn": {"title": "a network", "setting": "", "settings": [], "about": ""},
            "jaxnets": {"title": "jaxnets", "setting": "", "settings": [], "about": "keypoints"},
        },
        "runs": {
            "phash": {
                "8": {"lung": run},
                "9": {"lung": {**run, "processor_seconds": 9.0}},
                "10": {"tuning": {**run, "failed": "too slow"}},
            },
            "cnn": {"": dict.fromkeys(duplicates_page.TITLES, no_weights)},
            "jaxnets": {"": {"lung": {**run, "processor_seconds": 70.0, "peak_memory": 2**29}}},
        },
        "thresholds": {
            "phash": {"tuned": {"pairs": choice("9", -9.0), "groups": choice("8", -4.0)}},
            "cnn": {"default": none},
            "jaxnets_originals": {"default": none},
            "jaxnets_groups": {"default": none},
        },
        "scores": scores,
        "splits": {
            "published": entries,
            "harder": entries,
            "lung": {**entries, "phash": {"no_split": "few"}},
        },
        "failures": {"harder: divided": 3},
    }
    (tmp_path / "duplicates.json").write_text(json.dumps(content))
    return tmp_path


def _section(folder: Path, name: str) -> list[str]:
    return duplicates_page.sections(folder)[name]().splitlines()


def test_the_page_names_what_is_better_than_one_of_our_rows(folder: Path) -> None:
    lines = _section(folder, "duplicates_better")
    ours = "jaxnets, originals: 0.600; jaxnets, groups: 0.800"
    pairs = [
        f"| F1 of pairs, {duplicates_page.TITLES[name]} | pHash: 0.900 | {ours} |"
        for name in ("published", "harder", "lung")
    ]
    assert [line for line in lines if "F1 of pairs" in line] == pairs
    assert [line for line in lines[2:] if "F1" not in line] == [
        "| processor time, LC25000 | pHash: 7 s | jaxnets: 70 s |",
        "| pairs across LC25000's classes | pHash: 4 | jaxnets: 4 |",
        "| pairs of photographs | pHash: 10 | jaxnets: 10 |",
        "| pairs of MNIST's digits | pHash: 10 | jaxnets: 10 |",
    ]


def test_the_page_names_fewer_wrong_pairs(folder: Path) -> None:
    path = folder / "duplicates.json"
    content = json.loads(path.read_text())
    scores = content["scores"]
    scores["phash"] = json.loads(json.dumps(scores["phash"]))
    scores["phash"]["lung"]["across_classes"]["tuned"] = 5
    scores["phash"]["mnist"]["copies"]["tuned"]["pairs"]["reported"] = 0
    scores["phash"]["photographs"]["copies"]["tuned"]["pairs"]["reported"] = 11
    path.write_text(json.dumps(content))
    lines = _section(folder, "duplicates_better")
    assert [line for line in lines if line.startswith("| pairs")] == [
        "| pairs of MNIST's digits | pHash: 0 | jaxnets: 10 |"
    ]


def test_equal_measures_are_named(folder: Path) -> None:
    path = folder / "duplicates.json"
    content = json.loads(path.read_text())
    content["scores"]["phash"] = _row(0.8, 0.2, "tuned")
    path.write_text(json.dumps(content))
    assert _section(folder, "duplicates_better")[2].startswith(
        "| F1 of pairs, copies like LC25000 | pHash: 0.800 |"
    )


def test_sets_and_their_part_of_the_photographs(folder: Path) -> None:
    lines = _section(folder, "duplicates_sets")
    assert "| harder copies | 1,000 | 50 photographs |" in lines
    assert "| LC25000 | 1,000 | 40 human clusters, 60 originals, 50 groups of ours |" in lines
    assert lines[-1] == ("These results are of 50 of the 717 photographs, drawn at random with seed 0.")


def test_rows_of_pairs_groups_and_splits(folder: Path) -> None:
    pairs = _section(folder, "duplicates_pairs")
    assert pairs[2].startswith("| pHash | 100.0 / 50.0; 0.900 [0.800, 1.000]; 0.250 |")
    assert pairs[3] == "| a network | no result | no result | no result |"
    assert pairs[5].startswith("| **jaxnets, groups** | 100.0 / 50.0; 0.800 [0.700, 0.900] |")
    assert [line.split(" | ")[0] for line in _section(folder, "duplicates_default")[2:]] == [
        "| a network",
        "| **jaxnets, originals**",
        "| **jaxnets, groups**",
    ]
    assert "| 0.700; 100.0 / 50.0; 3, 2 |" in _section(folder, "duplicates_groups")[5]
    splits = _section(folder, "duplicates_splits")
    assert "| random split | 100.0 | 100.0 | 100.0 | 100.0 | 90.0 ± 1.0 |" in splits
    assert "| pHash | 30.0 | 30.0 | no split | no split |  |" in splits
    assert "| a network | no result | no result | no result | no result |  |" in splits


def test_costs_and_reasons(folder: Path) -> None:
    assert _section(folder, "duplicates_cost")[2:] == [
        "| pHash | 1.0 | 64 bits | 7 | 1.00 |",
        "| a network |  |  | no result | no result |",
        "| **jaxnets** | 1.0 | keypoints | 70 | 0.50 |",
    ]
    assert _section(folder, "duplicates_settings")[2:] == ["| pHash | none | 9; 9, 9 s | 8; 4 |"]
    assert _section(folder, "duplicates_failed") == [
        "- pHash, LC25000, lung_aca (tuning) (10): `too slow`",
        "- a network, all sets: `no weights`",
    ]
    assert _section(folder, "duplicates_failures")[-1] == "| harder: divided | 3 |"
    assert "| 1 of 2 | 0 of 3 |" in _section(folder, "duplicates_ours")[2]
    controls = _section(folder, "duplicates_controls")
    assert controls[2:4] == ["| pHash | 4 | 10 | 10 |", "| a network | no result | no result | no result |"]


def test_picture_has_a_panel_per_set(folder: Path, tmp_path: Path) -> None:
    data = duplicates_page.drawn_data(folder)
    assert len(data["panels"]) == 3
    duplicates_page.draw(tmp_path / "picture.png", data)
    assert (tmp_path / "picture.png").stat().st_size > 5_000


def test_page_without_results(tmp_path: Path) -> None:
    assert set(duplicates_page.sections(tmp_path)["duplicates_better"]().splitlines()) == {NOT_MEASURED}
    assert duplicates_page.drawn_data(tmp_path) == {}


def test_the_page_has_every_section(repository: Path) -> None:
    page = (repository / "docs" / "duplicates_benchmark.md").read_text()
    for mark in duplicates_page.sections(repository):
        assert f"<!-- {mark} -->" in page


def test_the_numbers_of_the_introduction_of_find_duplicates(repository: Path) -> None:
    content = duplicates_page.read(repository / "results" / "bench")
    page = " ".join((repository / "docs" / "duplicates.md").read_text().split())

    def f1(name: str) -> tuple[float, float]:
        """Returns F1 of our groups and of the best other finder, with any of its settings."""
        found = {
            row: max((e["pairs"]["f1"] for e in by_set[name]["copies"].values() if "pairs" in e), default=0)
            for row, by_set in content["scores"].items()
        }
        return found.pop("jaxnets_groups"), max(
            v for row, v in found.items() if row not in duplicates_page.OURS
        )

    (ours, other), (ours_harder, other_harder) = f1("published"), f1("harder")
    assert ours == 1
    assert f"our groups find all pairs and the next best finder has an F1 of {other:.2f};" in page
    assert f"ours have {ours_harder:.3f} and the next best {other_harder:.2f}." in page
    seconds = {name: runs for name, runs in content["runs"].items() if name in ("immaculate_pdq", "phash")}
    hashes = [next(iter(by_setting.values()))["lung"]["processor_seconds"] for by_setting in seconds.values()]
    searched = content["runs"]["jaxnets"][""]["lung"]["processor_seconds"]
    assert [round(searched / each) for each in (max(hashes), min(hashes))] == [3, 21]
