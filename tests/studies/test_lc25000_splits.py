"""The published splits of LC25000 do not divide groups, and are those of the stored results."""

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from jaxnets.data.groups import shipped_groups
from jaxnets.data.splits import assign_folds
from studies import lc25000_splits


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(lc25000_splits.PATH.read_text().splitlines()))


def test_groups_are_those_of_the_package_and_are_not_divided(rows: list[dict[str, str]]) -> None:
    shipped = shipped_groups("lc25000_lung")
    assert shipped is not None
    assert {row["file"]: (row["original"], row["group"]) for row in rows} == dict(shipped.members)
    for column in ("grouped", "fold"):
        parts = defaultdict(set)
        for row in rows:
            parts[row["group"]].add(row[column])
        assert all(len(found) == 1 for found in parts.values())


def test_folds_are_those_of_cross_validation(rows: list[dict[str, str]], repository: Path) -> None:
    _, labels = np.unique([row["file"].partition("/")[0] for row in rows], return_inverse=True)
    groups = np.array([int(row["group"]) for row in rows])
    folds = assign_folds(labels, groups, folds=lc25000_splits.FOLDS, seed=0)
    assert folds.tolist() == [int(row["fold"]) for row in rows]
    stored = lc25000_splits.PATH.parent / "lung_efficientnet-224px-imagenet-5folds" / "result.json"
    runs = json.loads(stored.read_text())["cross_validation"]["runs"]
    assert np.bincount(folds).tolist() == [run["examples"] for run in runs]


def test_the_grouped_split_has_the_size_of_the_stored_runs(
    rows: list[dict[str, str]], repository: Path
) -> None:
    stored = repository / "results" / "lung_densenet-64px-grouped-s0" / "result.json"
    tested = sum(row["grouped"] == "test" for row in rows)
    assert tested == json.loads(stored.read_text())["test_examples"]
