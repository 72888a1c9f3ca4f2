"""The groups that are shipped for LC25000, and how they compare with clusters that people checked."""

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
from jaxnets.data.sources.lc25000 import FOLDERS, IMAGES_PER_CLASS

CLASSES = tuple(FOLDERS)
KINDS = ("one original divided", "overlap left apart", "two originals joined")
ENDS = ("file", "other_file")


def _recorded(repository: Path) -> dict[str, Any]:
    return json.loads((repository / "results" / "lc25000" / "duplicates.json").read_text())


def _files(folder: str) -> list[str]:
    return [f"{folder}/{FOLDERS[folder]}{n}.jpeg" for n in range(1, IMAGES_PER_CLASS + 1)]


def test_every_image_is_in_the_table() -> None:
    shipped = shipped_groups("lc25000_lung")
    assert shipped is not None
    files = [file for folder in CLASSES for file in _files(folder)]
    originals, groups = shipped.match(files)
    for label in range(3):
        own = slice(label * IMAGES_PER_CLASS, (label + 1) * IMAGES_PER_CLASS)
        assert len(np.unique(originals[own])) == 250
        assert 225 <= len(np.unique(groups[own])) < 250


def test_the_mirror_in_results_is_the_same(repository: Path) -> None:
    shipped = shipped_groups("lc25000_lung")
    assert shipped is not None
    assert (repository / "results" / "lc25000" / "groups.csv").read_text() == shipped.to_csv()


def test_corrections_follow_from_the_table(repository: Path) -> None:
    shipped = shipped_groups("lc25000_lung")
    assert shipped is not None
    with (repository / "results" / "lc25000" / "corrections.csv").open() as file:
        rows = list(csv.DictReader(file))
    page = (repository / "docs" / "lc25000_corrections.md").read_text()
    counts = {kind: sum(row["kind"] == kind for row in rows) for kind in KINDS}
    assert sum(counts.values()) == len(rows)
    for kind, count in counts.items():
        assert f"| {kind} | {count} |" in page
    for row in rows:
        (one, group), (other, its_group) = (shipped.members[row[end]] for end in ENDS)
        assert group == its_group, row
        assert (one == other) == (row["kind"] == KINDS[0]), row


def test_the_page_has_the_recorded_numbers(repository: Path) -> None:
    message = _recorded(repository)
    page = (repository / "docs" / "lc25000_corrections.md").read_text()
    for folder, scores in message["against_human_clusters"].items():
        counts, by = message["classes"][folder], (scores["originals"], scores["groups"])
        pairs = [f"{score['precision']:.4f}, {score['recall']:.4f}" for score in by]
        row = f"| {folder} | {counts['originals']} | {pairs[0]} | {counts['groups']} | {pairs[1]} |"
        assert row in page
    sure = message["confidence"]
    for name in (
        "largest_centre_distance_within_an_original",
        "smallest_centre_distance_between_originals",
    ):
        assert f"{sure[name]} px" in page
    assert f"{message['overlaps']['joined']} pairs of originals" in page
    assert f"{message['run']['processor_seconds']:.0f} seconds of processor time" in page


def test_the_score_knows_its_bounds() -> None:
    human = load("human_clusters")
    theirs = np.array([0, 0, 1, 1, 1])
    same = human.score(theirs + 5, theirs)
    assert (same.precision, same.recall, same.adjusted_rand) == (1, 1, 1)
    joined = human.score(np.zeros(5, int), theirs)
    assert (joined.precision, joined.recall) == (pytest.approx(4 / 10), 1)
    divided = human.score(np.array([0, 0, 1, 1, 2]), theirs)
    assert (divided.precision, divided.recall) == (1, pytest.approx(2 / 4))
    assert human.differences(theirs + 5, theirs) == []
    assert human.differences(np.array([0, 0, 1, 1, 2]), theirs) == [({1, 2}, {1})]


@pytest.mark.slow
@pytest.mark.parametrize("folder", CLASSES)
def test_people_agree(repository: Path, folder: str) -> None:
    place = os.environ.get("JAXNETS_HUMAN_CLUSTERS")
    if not place:
        pytest.skip("set JAXNETS_HUMAN_CLUSTERS to the folder of LC25000-clean's three tables")
    human, shipped = load("human_clusters"), shipped_groups("lc25000_lung")
    assert shipped is not None
    theirs, _ = read_groups(Path(place) / f"{folder}.csv").match(_files(folder))
    members = np.array([shipped.members[file] for file in _files(folder)])
    originals, groups = (np.unique(members[:, part], return_inverse=True)[1] for part in (0, 1))
    message = _recorded(repository)["against_human_clusters"][folder]
    for ours, name in ((originals, "originals"), (groups, "groups")):
        assert dataclasses.asdict(human.score(ours, theirs)) == pytest.approx(message[name], abs=1e-9)
    assert message["originals"]["precision"] >= 0.996
    assert message["groups"]["recall"] >= 0.9999
