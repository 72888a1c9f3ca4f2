"""Learning curves over the number of training groups."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxnets.data.cache import CachedSource
from jaxnets.data.dataset import Dataset
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.data.splits import Split
from studies import learning_curve


@pytest.fixture
def data() -> Dataset:
    """Ninety images of three classes, in groups of three: 60 for training, 15 for validation and the test."""
    source = CachedSource(SyntheticTissue(90, 8), np.zeros((90, 8, 8, 3), np.uint8))
    order = np.argsort(source.labels, kind="stable")
    groups = np.empty(90, np.int64)
    groups[order] = np.arange(90) // 3
    test, validation = (np.flatnonzero(groups % 6 == rest) for rest in (0, 1))
    train = np.flatnonzero(groups % 6 > 1)
    return Dataset(source, Split(train=train, validation=validation, test=test, name="grouped"), None, groups)  # type: ignore[arg-type]


def test_training_images_are_those_of_some_groups(data: Dataset) -> None:
    generator = np.random.default_rng(0)
    by_class = learning_curve.nested_groups(data, generator)
    assert data.group_ids is not None
    for label, groups in enumerate(by_class):
        members = data.split.train[np.isin(data.group_ids[data.split.train], groups)]
        assert set(data.source.labels[members]) == {label}
    groups = np.concatenate([each[:2] for each in by_class])
    everything = learning_curve.training_images(data, groups, "all", generator)
    assert set(data.group_ids[everything]) == set(groups)
    assert len(everything) == 18
    one = learning_curve.training_images(data, groups, "one", generator)
    assert sorted(data.group_ids[one]) == sorted(groups)
    assert set(one) <= set(data.split.train)


def test_every_row_counts_groups_and_images(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(learning_curve, "GROUPS", (6,))
    features = np.eye(3)[data.source.labels]
    measured = list(learning_curve.measure({"efficientnet_lite0": features, "colour": 0 * features}, [data]))
    assert [(row["groups"], row["images"]) for row in measured[::2]] == [(6, 18), (6, 6), (20, 60), (20, 20)]
    assert all(row["accuracy"] == 1 for row in measured[::2])
    assert all(row["accuracy"] < 0.6 for row in measured[1::2])
    path = tmp_path / learning_curve.RESULTS
    path.parent.mkdir()
    path.write_text(json.dumps({"rows": measured}))
    six, twenty = learning_curve.rows(tmp_path)
    assert six[:2] == ("6", "18")
    assert twenty[2].startswith("100.0 % [")
    assert learning_curve.rows(tmp_path / "absent") == []
