"""The map of the features: which images and groups it shows, and how a leak shows."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jaxnets.data.dataset import Dataset
from jaxnets.experiment import feature_map
from jaxnets.experiment.data import open_dataset, with_cache
from jaxnets.experiment.feature_map import GREY, make_feature_map
from jaxnets.experiment.load import open_network
from jaxnets.experiment.predictor import Predictor
from jaxnets.experiment.run_directory import open_run


@pytest.fixture(scope="module")
def run(trained: Path) -> tuple[Dataset, Predictor]:
    config = open_run(trained).config
    predictor, _ = open_network(trained)
    assert isinstance(predictor, Predictor)
    return with_cache(config, open_dataset(config)), predictor


def _with_groups(data: Dataset, *, leaks: bool) -> Dataset:
    """The data with three groups of test images, which have training images too if it leaks."""
    groups = np.arange(len(data.source))
    for number, index in enumerate(data.split.test):
        groups[index] = number % 3
    others = data.split.train if leaks else data.split.validation
    groups[data.split.train] += 1000
    groups[others[:3]] = (0, 1, 2)
    return dataclasses.replace(data, group_ids=groups)


@pytest.mark.parametrize("leaks", [True, False])
def test_a_leak_shows_as_crosses(run: tuple[Dataset, Predictor], leaks: bool) -> None:
    data, predictor = run
    data = _with_groups(data, leaks=leaks)
    found = make_feature_map(data, predictor, "test")
    assert found is not None
    by_class, by_group = found.charts
    assert len(by_class.marks) == len(data.split.test)
    assert not any(mark.is_cross for mark in by_class.marks)
    assert sum(mark.is_cross for mark in by_group.marks) == (3 if leaks else 0)
    assert ("this split leaks" in found.text) is leaks
    colour_of = {mark.description: mark.colour for mark in by_group.marks}
    assert data.group_ids is not None
    for group in range(3):
        shown = [i for i in data.split.test if data.group_ids[i] == group]
        shown += data.split.train[data.group_ids[data.split.train] == group].tolist()
        assert len({colour_of[data.source.files[index]] for index in shown}) == 1
    assert GREY not in colour_of.values()
    assert [name for _, name in by_class.legend] == list(data.source.classes)


def test_the_number_of_images_is_bounded(
    run: tuple[Dataset, Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, predictor = run
    data = _with_groups(data, leaks=True)
    monkeypatch.setattr(feature_map, "MAX_HELD_OUT", 5)
    monkeypatch.setattr(feature_map, "MAX_TRAINING", 2)
    monkeypatch.setattr(feature_map, "MAX_GROUPS", 2)
    found = make_feature_map(data, predictor, "test")
    assert found is not None
    assert len(found.charts[0].marks) == 5
    assert len(found.charts[1].marks) == 7
    assert "2 of 3 groups have a colour" in found.text


def test_without_groups_there_is_only_the_chart_by_class(run: tuple[Dataset, Predictor]) -> None:
    data, predictor = run
    found = make_feature_map(dataclasses.replace(data, group_ids=None), predictor, "test")
    assert found is not None
    assert len(found.charts) == 1
    assert "no groups are known" in found.text
    alone = make_feature_map(data, predictor, "test")  # each image is a group of its own
    assert alone is not None
    assert len(alone.charts) == 1
    assert "no two images shown are of one group" in alone.text


def test_constant_features_have_a_map() -> None:
    places, axes = feature_map._principal_components(np.ones((5, 3), np.float32), 4)
    assert not places.any()
    assert axes == ["component 1 (0 %)", "component 2 (0 %)"]
