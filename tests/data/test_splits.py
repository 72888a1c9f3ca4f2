"""Splits: completeness, balance, reproducibility, groups, and detection of leakage."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxnets.data.cache import open_cache
from jaxnets.data.groups import in_order, shipped_groups
from jaxnets.data.sources.image_folder import ImageFolder, natural_order
from jaxnets.data.sources.points import Points
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.data.splits import (
    LabelConflicts,
    Split,
    assign_folds,
    find_exact_duplicates,
    find_label_conflicts,
    fold_split,
    grouped_split,
    leaked_fractions,
    make_split,
    random_split,
    sha256,
)
from jaxnets.errors import ConfigError, DataError

FRACTIONS = (0.7, 0.15, 0.15)


@given(sizes=st.lists(st.integers(10, 60), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_every_example_is_in_one_split(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    split = random_split(labels, FRACTIONS, seed)
    indices = np.concatenate(list(split.parts().values()))
    np.testing.assert_array_equal(np.sort(indices), np.arange(len(labels)))
    for label, size in enumerate(sizes):
        assert abs((labels[split.train] == label).sum() - 0.7 * size) <= 1


def test_lc25000_split_sizes_match_the_reports() -> None:
    split = random_split(np.repeat(np.arange(3), 5000), FRACTIONS, 0)
    assert [len(part) for part in split.parts().values()] == [10_500, 2_250, 2_250]


def test_split_depends_on_the_seed() -> None:
    labels = np.repeat(np.arange(3), 50)
    first, again, other = (random_split(labels, FRACTIONS, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


def test_too_small_class_raises() -> None:
    with pytest.raises(DataError, match=r"class 1 has 2 examples: too few"):
        random_split(np.array([0] * 20 + [1] * 2), FRACTIONS, 0)


def test_csv_has_one_row_per_example() -> None:
    source = SyntheticTissue(30, 8)
    split = make_split(source, "random", fractions=FRACTIONS, validation_fraction=0, seed=0)
    rows = list(csv.DictReader(io.StringIO(split.to_csv(source))))
    assert [int(row["index"]) for row in rows] == list(range(30))
    assert {int(row["index"]) for row in rows if row["split"] == "test"} == set(split.test.tolist())
    assert rows[1]["label"] == source.classes[1]


class _Official(SyntheticTissue):
    @property
    def official_split(self) -> dict[str, np.ndarray]:
        return {"train": np.arange(30), "test": np.arange(30, 60)}


def test_official_test_set_is_complete() -> None:
    source = _Official(60, 8)
    split = make_split(source, "official", fractions=FRACTIONS, validation_fraction=0.2, seed=0)
    np.testing.assert_array_equal(split.test, np.arange(30, 60))
    assert len(split.validation) == 6
    assert set(split.train) | set(split.validation) == set(range(30))


def test_missing_official_split_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    tissue, official = SyntheticTissue(30, 8), _Official(60, 8)
    options = {"fractions": FRACTIONS, "validation_fraction": 0, "seed": 0}
    with pytest.raises(DataError, match="no official train and test: use"):
        make_split(tissue, "official", **options)
    monkeypatch.setattr(_Official, "official_split", {"train": np.arange(60)})
    with pytest.raises(DataError, match="test, only train: use"):
        make_split(official, "official", **options)


def _grouped(sizes: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels and groups, given the sizes of the groups of each class."""
    labels = np.repeat(np.arange(len(sizes)), [sum(each) for each in sizes])
    flat = [size for each in sizes for size in each]
    return labels, np.repeat(np.arange(len(flat)), flat)


def _groups_by_part(split: Split, groups: np.ndarray) -> list[set[int]]:
    return [set(groups[part].tolist()) for part in split.parts().values()]


def _keeps_groups_whole(split: Split, groups: np.ndarray) -> bool:
    parts = _groups_by_part(split, groups)
    return sum(map(len, parts)) == len(set.union(*parts))


GROUP_SIZES = st.lists(st.lists(st.integers(1, 30), min_size=3, max_size=25), min_size=2, max_size=4)


class TestGroupedSplit:
    @given(sizes=GROUP_SIZES, seed=st.integers(0, 99))
    @settings(max_examples=30)
    def test_groups_are_not_divided_and_every_part_has_every_class(
        self, sizes: list[list[int]], seed: int
    ) -> None:
        labels, groups = _grouped(sizes)
        shuffled = np.random.default_rng(seed).permutation(len(labels))
        labels, groups = labels[shuffled], groups[shuffled]
        split = grouped_split(labels, groups, FRACTIONS, seed)
        indices = np.concatenate(list(split.parts().values()))
        np.testing.assert_array_equal(np.sort(indices), np.arange(len(labels)))
        assert _keeps_groups_whole(split, groups)
        for part in split.parts().values():
            assert set(labels[part]) == set(labels)

    def test_classes_are_balanced_and_fractions_met(self) -> None:
        generator = np.random.default_rng(0)
        labels, groups = _grouped([generator.integers(3, 46, 240).tolist() for _ in range(3)])
        split = grouped_split(labels, groups, FRACTIONS, 0)
        for part, fraction in zip(split.parts().values(), FRACTIONS, strict=True):
            fractions = np.bincount(labels[part]) / np.bincount(labels)
            np.testing.assert_allclose(fractions, fraction, atol=0.01)

    def test_split_depends_on_the_seed(self) -> None:
        labels, groups = _grouped([[5] * 40, [4] * 50])
        first, again, other = (grouped_split(labels, groups, FRACTIONS, s) for s in (1, 1, 2))
        np.testing.assert_array_equal(first.test, again.test)
        common = _groups_by_part(first, groups)[2] & _groups_by_part(other, groups)[2]
        assert len(common) < 8  # of about 14

    def test_large_group_is_in_the_training_set(self) -> None:
        labels, groups = _grouped([[60, 10, 10, 10, 10], [20, 20, 20, 20, 20]])
        assert 0 in _groups_by_part(grouped_split(labels, groups, FRACTIONS, 3), groups)[0]

    def test_group_of_two_classes_is_not_divided(self) -> None:
        labels = np.repeat([0, 1], 50)
        groups = np.tile(np.repeat(np.arange(10), 5), 2)  # every group has both classes
        split = grouped_split(labels, groups, FRACTIONS, 0)
        assert [len(side) for side in _groups_by_part(split, groups)] in ([7, 1, 2], [7, 2, 1], [6, 2, 2])
        assert _keeps_groups_whole(split, groups)

    def test_part_with_fraction_0_is_empty(self) -> None:
        labels, groups = _grouped([[5] * 4, [5] * 4])
        split = grouped_split(labels, groups, (0.75, 0.0, 0.25), 0)
        assert [len(part) for part in split.parts().values()] == [30, 0, 10]

    def test_too_few_groups_raise(self) -> None:
        labels, groups = _grouped([[5] * 4, [40, 2]])
        with pytest.raises(DataError, match="class 1 has 2 groups, but each of the 3 subsets needs one"):
            grouped_split(labels, groups, FRACTIONS, 0)
        with pytest.raises(DataError, match="class 1 has 2 groups, but each of the 4 folds needs one"):
            fold_split(labels, groups, folds=4, fold=0, seed=0)

    def test_error_has_the_name_of_the_class(self) -> None:
        source = SyntheticTissue(9, 16)
        with pytest.raises(DataError, match=f"class {source.classes[0]} has 3 examples: too few"):
            make_split(source, "random", fractions=(0.9, 0.1, 0.0), validation_fraction=0, seed=0)

    def test_error_names_a_class_bound_to_others(self) -> None:
        # Each group with class 1 has a large part of class 0, so two are needed for training.
        labels = np.repeat([0, 1, 2], [30, 3, 30])
        groups = np.concatenate([np.zeros(30), [0, 1, 2], np.ones(15), np.full(15, 2)]).astype(int)
        with pytest.raises(DataError, match="class 0 has 1 group, but each of the 3 subsets"):
            grouped_split(labels, groups, FRACTIONS, 0)

    def test_every_example_is_tested_in_one_fold(self) -> None:
        labels, groups = _grouped([[3, 4, 5, 6, 7] * 4, [5] * 20])
        folds = [fold_split(labels, groups, folds=5, fold=k, seed=0) for k in range(5)]
        tested = np.sort(np.concatenate([split.test for split in folds]))
        np.testing.assert_array_equal(tested, np.arange(len(labels)))
        for number, split in enumerate(folds):
            np.testing.assert_array_equal(split.validation, folds[(number + 1) % 5].test)
            assert _keeps_groups_whole(split, groups)
            assert abs((labels[split.test] == 0).mean() - 0.5) < 0.1

    def test_folds_of_examples_without_groups_are_stratified(self) -> None:
        labels = np.repeat([0, 1, 2], [50, 23, 40])
        numbers = assign_folds(labels, None, folds=5, seed=3)
        counts = np.array([np.bincount(labels[numbers == fold], minlength=3) for fold in range(5)])
        assert (np.ptp(counts, axis=0) <= 1).all()
        assert not np.array_equal(numbers, assign_folds(labels, None, folds=5, seed=4))
        split = fold_split(labels, None, folds=5, fold=4, seed=3)
        assert split.name == "random"
        np.testing.assert_array_equal(split.test, np.flatnonzero(numbers == 4))
        np.testing.assert_array_equal(split.validation, np.flatnonzero(numbers == 0))

    def test_folds_of_lc25000(self) -> None:
        """Results of other machines and versions can only be pooled if the folds are the same."""
        files = sorted(shipped_groups("lc25000_lung").members, key=natural_order)
        _, groups = shipped_groups("lc25000_lung").match(files)
        labels = in_order(file.split("/")[0] for file in files)
        numbers = assign_folds(labels, groups, folds=5, seed=0)
        assert (
            sha256("".join(map(str, numbers)))
            == "2895ec608575abf461166ce5d081d53e694b518fe718098c954b50ea53078297"
        )
        for fold in range(5):
            assert np.abs(np.bincount(labels[numbers == fold]) - 1000).max() < 60
            assert not np.isin(groups[numbers == fold], groups[numbers != fold]).any()

    def test_too_few_points_raise(self) -> None:
        with pytest.raises(DataError, match=r"points has 4 examples: too few for validation"):
            make_split(Points(), "random", fractions=FRACTIONS, validation_fraction=0.0, seed=0)

    def test_error_without_groups_names_the_command(self) -> None:
        source, options = SyntheticTissue(30, 8), {"validation_fraction": 0.0, "seed": 0}
        with pytest.raises(ConfigError, match="find_duplicates.py DIR and pass --config.data.groups"):
            make_split(source, "grouped", fractions=FRACTIONS, **options)
        groups = np.arange(30) // 3
        split = make_split(source, "random", fractions=FRACTIONS, groups=groups, **options)
        row = split.to_csv(source).splitlines()[8]
        assert row.startswith("7,")
        assert row.endswith(",2")


SPLIT = Split("random", np.arange(6), np.array([6, 7]), np.array([8, 9, 10, 11]))


def test_fraction_of_images_with_a_near_duplicate_in_training() -> None:
    group_ids = np.array([0, 0, 1, 1, 2, 2, 2, 9, 0, 9, 8, 1])  # 9 is only in validation and test
    assert leaked_fractions(SPLIT, group_ids) == {"validation": 0.5, "test": 0.5}
    assert leaked_fractions(SPLIT, np.arange(12)) == {"validation": 0.0, "test": 0.0}


def test_unknown_groups_give_none() -> None:
    assert leaked_fractions(SPLIT, None) == {"validation": None, "test": None}
    empty = Split("official", np.arange(6), np.zeros(0, np.int64), np.array([6]))
    assert leaked_fractions(empty, np.zeros(7, np.int64)) == {"validation": None, "test": 1.0}


def test_exact_duplicates_are_counted_once() -> None:
    contents = np.array(list("abcdefaxbbgx"))
    exact_duplicates = find_exact_duplicates(SPLIT, contents)
    counts = exact_duplicates.validation, exact_duplicates.test
    assert counts == (1, 3)  # 6 = a; 8 and 9 = b, 11 equals 7
    assert exact_duplicates.pair == (8, 1)
    assert find_exact_duplicates(SPLIT, np.arange(12)) is None


def test_exact_duplicates_with_different_labels_are_conflicts() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 2])
    assert find_label_conflicts(labels, np.array(list("abacada"))) == LabelConflicts(4, (0, 4))
    assert find_label_conflicts(labels, np.array(list("cabcxxy"))) == LabelConflicts(2, (0, 3))
    assert find_label_conflicts(labels, np.array(list("aabccdx"))) is None
    assert find_label_conflicts(labels, np.arange(7)) is None


def test_example_in_two_parts_is_not_its_own_duplicate() -> None:
    both = Split("official", np.arange(4), np.zeros(0, np.int64), np.arange(4))
    assert find_exact_duplicates(both, np.arange(4)) is None


@pytest.mark.parametrize("cached", [True, False])
def test_image_folder_content_hashes_are_of_the_files(tmp_path: Path, cached: bool) -> None:
    for name, level in (("a/1", 9), ("a/2", 9), ("b/1", 9), ("b/2", 10)):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / "set" / f"{name}.png")
    source = ImageFolder(tmp_path / "set")
    contents = (open_cache(source, tmp_path, 8) if cached else source).content_hashes()
    assert contents is not None
    assert (contents[:3] == contents[0]).all()
    assert contents[3] != contents[0]


def test_other_content_hashes_are_of_the_pixels(tmp_path: Path) -> None:
    source = SyntheticTissue(30, 8)
    assert source.content_hashes() is None
    contents = open_cache(source, tmp_path, 8).content_hashes()
    assert contents is not None
    assert len(set(contents.tolist())) == 30
