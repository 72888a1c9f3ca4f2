"""Leakage: near-duplicates and exact copies across splits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets.data.cache import open_cache
from jaxnets.data.leakage import (
    LabelConflicts,
    content_hashes,
    find_exact_duplicates,
    find_label_conflicts,
    leaked_fractions,
)
from jaxnets.data.sources.image_folder import ImageFolder
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.data.splits import Split

SPLIT = Split("random", np.arange(6), np.array([6, 7]), np.array([8, 9, 10, 11]))


def test_fraction_of_images_with_a_near_duplicate_in_training() -> None:
    group_ids = np.array([0, 0, 1, 1, 2, 2, 2, 9, 0, 9, 8, 1])  # 9 is in validation and test alone
    assert leaked_fractions(SPLIT, group_ids) == {"validation": 0.5, "test": 0.5}
    assert leaked_fractions(SPLIT, np.arange(12)) == {"validation": 0.0, "test": 0.0}


def test_unknown_groups_give_none() -> None:
    assert leaked_fractions(SPLIT, None) == {"validation": None, "test": None}
    empty = Split("official", np.arange(6), np.zeros(0, np.int64), np.array([6]))
    assert leaked_fractions(empty, np.zeros(7, np.int64)) == {"validation": None, "test": 1.0}


def test_copies_are_counted_once_and_the_first_pair_returned() -> None:
    contents = np.array(list("abcdefaxbbgx"))
    exact_duplicates = find_exact_duplicates(SPLIT, contents)
    assert (exact_duplicates.validation, exact_duplicates.test) == (
        1,
        3,
    )  # 6 = a; 8, 9 = b, and 11 is 7's
    assert exact_duplicates.pair == (8, 1)
    assert not find_exact_duplicates(SPLIT, np.arange(12)).any


def test_copies_with_different_labels_are_conflicts() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 2])
    assert find_label_conflicts(labels, np.array(list("abacada"))) == LabelConflicts(4, (0, 4))
    assert find_label_conflicts(labels, np.array(list("cabcxxy"))) == LabelConflicts(2, (0, 3))
    assert find_label_conflicts(labels, np.array(list("aabccdx"))) is None
    assert find_label_conflicts(labels, np.arange(7)) is None


def test_an_example_in_two_splits_is_not_its_own_copy() -> None:
    both = Split("official", np.arange(4), np.zeros(0, np.int64), np.arange(4))
    assert not find_exact_duplicates(both, np.arange(4)).any


@pytest.mark.parametrize("cached", [True, False])
def test_files_are_distinguished_by_their_bytes(tmp_path: Path, cached: bool) -> None:
    for name, level in (("a/1", 9), ("a/2", 9), ("b/1", 9), ("b/2", 10)):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / "set" / f"{name}.png")
    source = ImageFolder(tmp_path / "set")
    contents = content_hashes(open_cache(source, tmp_path, 8) if cached else source)
    assert contents is not None
    assert (contents[:3] == contents[0]).all()
    assert contents[3] != contents[0]


def test_other_sources_are_distinguished_by_their_pixels(tmp_path: Path) -> None:
    source = SyntheticTissue(30, 8)
    assert content_hashes(source) is None
    contents = content_hashes(open_cache(source, tmp_path, 8))
    assert contents is not None
    assert len(set(contents.tolist())) == 30
