"""The shipped groups of LC25000, and their comparison with clusters checked by people."""

import csv
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.oracles import load
from jaxnets.data.groups import read_groups, shipped_groups
from jaxnets.data.near_duplicates.features import Settings
from jaxnets.data.sources.lc25000 import FOLDERS, IMAGES_PER_CLASS

CLASSES = tuple(FOLDERS)
KINDS = {
    "one original divided": "they divide one original",
    "overlap left apart": "they separate two overlapping photographs",
    "two originals joined": "they join two originals",
}
"""The kinds in corrections.csv, and their rows on the page."""
ENDS = ("file", "other_file")


def _recorded(repository: Path) -> dict[str, Any]:
    return json.loads((repository / "results" / "lc25000" / "duplicates.json").read_text())


def test_recorded_settings_are_the_defaults(repository: Path) -> None:
    assert _recorded(repository)["settings"] == json.loads(json.dumps(dataclasses.asdict(Settings())))


def _files(folder: str) -> list[str]:
    return [f"{folder}/{FOLDERS[folder]}{n}.jpeg" for n in range(1, IMAGES_PER_CLASS + 1)]


def test_shipped_table_has_every_image() -> None:
    shipped = shipped_groups("lc25000_lung")
    assert shipped is not None
    files = [file for folder in CLASSES for file in _files(folder)]
    originals, groups = shipped.match(files)
    for label in range(3):
        own = slice(label * IMAGES_PER_CLASS, (label + 1) * IMAGES_PER_CLASS)
        assert len(np.unique(originals[own])) == 250
        assert 225 <= len(np.unique(groups[own])) < 250


def test_table_in_results_matches_the_shipped_table(repository: Path) -> None:
    shipped = shipped_groups("lc25000_lung")
    assert shipped is not None
    assert (repository / "results" / "lc25000" / "groups.csv").read_text() == shipped.to_csv()


def test_corrections_match_the_table(repository: Path) -> None:
    shipped = shipped_groups("lc25000_lung")
    assert shipped is not None
    with (repository / "results" / "lc25000" / "corrections.csv").open() as file:
        rows = list(csv.DictReader(file))
    page = (repository / "docs" / "lc25000_corrections.md").read_text()
    counts = {kind: sum(row["kind"] == kind for row in rows) for kind in KINDS}
    assert sum(counts.values()) == len(rows)
    for kind, count in counts.items():
        assert f"| {KINDS[kind]} | {count} |" in page
    for row in rows:
        (one, group), (other, its_group) = (shipped.members[row[end]] for end in ENDS)
        assert group == its_group, row
        assert (one == other) == (row["kind"] == "one original divided"), row


def test_page_has_the_recorded_numbers(repository: Path) -> None:
    recorded = _recorded(repository)
    page = (repository / "docs" / "lc25000_corrections.md").read_text()
    for folder, scores in recorded["against_human_clusters"].items():
        counts, by = recorded["classes"][folder], (scores["originals"], scores["groups"])
        pairs = [f"{score['precision']:.4f}, {score['recall']:.4f}" for score in by]
        row = f"| {folder} | {counts['originals']} | {pairs[0]} | {counts['groups']} | {pairs[1]} |"
        assert row in page
    confidence = recorded["confidence"]
    for name in ("largest_centre_distance_within_an_original", "smallest_centre_distance_between_originals"):
        assert f"{confidence[name]} px" in page
    assert f"{recorded['overlaps']['joined']} pairs of originals" in page
    assert f"{recorded['run']['processor_seconds']:.0f} seconds of processor time" in page


def test_score_of_equal_joined_and_divided_clusters() -> None:
    human = load("human_clusters")
    theirs = np.array([0, 0, 1, 1, 1])
    equal = human.score(theirs + 5, theirs)
    assert (equal.precision, equal.recall, equal.adjusted_rand) == (1, 1, 1)
    joined = human.score(np.zeros(5, int), theirs)
    assert (joined.precision, joined.recall) == (pytest.approx(4 / 10), 1)
    divided = human.score(np.array([0, 0, 1, 1, 2]), theirs)
    assert (divided.precision, divided.recall) == (1, pytest.approx(2 / 4))
    assert human.differences(theirs + 5, theirs) == []
    assert human.differences(np.array([0, 0, 1, 1, 2]), theirs) == [({1, 2}, {1})]


@pytest.mark.slow
@pytest.mark.parametrize("folder", CLASSES)
def test_groups_match_human_clusters(repository: Path, folder: str) -> None:
    folder_of_tables = os.environ.get("JAXNETS_HUMAN_CLUSTERS")
    if not folder_of_tables:
        pytest.skip("set JAXNETS_HUMAN_CLUSTERS to the folder of LC25000-clean's three tables")
    human, shipped = load("human_clusters"), shipped_groups("lc25000_lung")
    assert shipped is not None
    theirs, _ = read_groups(Path(folder_of_tables) / f"{folder}.csv").match(_files(folder))
    members = np.array([shipped.members[file] for file in _files(folder)])
    originals, groups = (np.unique(members[:, part], return_inverse=True)[1] for part in (0, 1))
    recorded = _recorded(repository)["against_human_clusters"][folder]
    for ours, name in ((originals, "originals"), (groups, "groups")):
        assert dataclasses.asdict(human.score(ours, theirs)) == pytest.approx(recorded[name], abs=1e-9)
    assert recorded["originals"]["precision"] >= 0.996
    assert recorded["groups"]["recall"] >= 0.9999
