"""The four points of report A."""

import numpy as np
import pytest

from jaxnets import config as config_lib
from jaxnets.data.sources import open_source
from jaxnets.data.sources.base import Source
from jaxnets.data.sources.points import Points
from jaxnets.data.splits import make_split


def test_points_equal_those_of_report_a() -> None:
    source = Points()
    assert isinstance(source, Source)
    assert (len(source), source.kind, len(source.classes)) == (4, "vector", 0)
    second = source[1]
    np.testing.assert_array_equal(second["input"], [4.0, -1.0, 0.5])
    np.testing.assert_array_equal(second["label"], [-1.0])
    assert second["input"].dtype == second["label"].dtype == np.float64
    assert second["index"] == 1
    assert [float(example["label"][0]) for example in source] == [1.0, -1.0, -1.0, 1.0]


@pytest.mark.parametrize("index", [-1, 4])
def test_index_out_of_range_raises(index: int) -> None:
    with pytest.raises(IndexError, match=r"not in \[0, 4\)"):
        Points()[index]


def test_arrays_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Points()[0]["input"][0] = 7


def test_fingerprint_depends_on_the_values() -> None:
    changed = Points()
    assert changed.fingerprint == Points().fingerprint
    # Must not change: run directories store it.
    assert changed.fingerprint.startswith("a425753ad70de258")


def test_all_points_are_used_for_training_and_test(tmp_path) -> None:
    config = config_lib.default_config()
    config.data.name = "points"
    source = open_source(config.data, tmp_path)
    options = {"fractions": (1.0, 0.0, 0.0), "seed": 0}
    split = make_split(source, "official", validation_fraction=0.0, **options)
    for part, count in (("train", 4), ("validation", 0), ("test", 4)):
        assert len(split.parts()[part]) == count
    assert split.to_csv(source).splitlines()[1:3] == ["0,point 1,,test,", "0,point 1,,train,"]
    held_back = make_split(source, "official", validation_fraction=0.25, **options)
    assert sorted([*held_back.train, *held_back.validation]) == [0, 1, 2, 3]
    assert len(held_back.validation) == 1
