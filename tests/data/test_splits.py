"""Splits: disjoint, whole, balanced, the same for the same seed."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnets.data.splits import make_split, random_split
from jaxnets.data.synthetic_tissue import SyntheticTissue
from jaxnets.errors import DataError

FRACTIONS = (0.7, 0.15, 0.15)


@given(sizes=st.lists(st.integers(10, 60), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_every_example_is_on_one_side(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    split = random_split(labels, FRACTIONS, seed)
    everything = np.concatenate(list(split.parts().values()))
    np.testing.assert_array_equal(np.sort(everything), np.arange(len(labels)))
    for label, size in enumerate(sizes):
        assert abs((labels[split.train] == label).sum() - 0.7 * size) <= 1


def test_lc25000_divides_into_the_reports_sizes() -> None:
    split = random_split(np.repeat(np.arange(3), 5000), FRACTIONS, 0)
    assert [len(part) for part in split.parts().values()] == [10_500, 2_250, 2_250]


def test_the_seed_decides() -> None:
    labels = np.repeat(np.arange(3), 50)
    first, again, other = (random_split(labels, FRACTIONS, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


def test_a_class_that_is_too_small_is_named() -> None:
    with pytest.raises(DataError, match=r"class 1 has 2 examples: too few"):
        random_split(np.array([0] * 20 + [1] * 2), FRACTIONS, 0)


def test_csv_has_a_row_an_example() -> None:
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


def test_the_official_test_set_stays_whole() -> None:
    source = _Official(60, 8)
    split = make_split(source, "official", fractions=FRACTIONS, validation_fraction=0.2, seed=0)
    np.testing.assert_array_equal(split.test, np.arange(30, 60))
    assert len(split.validation) == 6
    assert set(split.train) | set(split.validation) == set(range(30))


def test_no_official_split_is_said() -> None:
    with pytest.raises(DataError, match="has no official split"):
        make_split(
            SyntheticTissue(30, 8), "official", fractions=FRACTIONS, validation_fraction=0, seed=0
        )
