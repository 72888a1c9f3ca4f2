"""The table of networks on CIFAR-10."""

from pathlib import Path

import made_results
import numpy as np
import pytest

from jaxnets.data.groups import Groups
from jaxnets.evaluation.predictions import Predictions
from studies.pages import cifar10_table

MEMBERS = {
    "test_batch/00001": ("a", "a"),
    "data_batch_1/00007": ("a", "a"),
    "test_batch/00002": ("b", "b"),
    "test_batch/00003": ("b", "b"),
}


def test_images_with_a_near_duplicate_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10_table, "shipped_groups", lambda name: Groups(name, MEMBERS))
    assert cifar10_table.rows(tmp_path) == []
    folder = tmp_path / cifar10_table.RUNS[-1]
    entry = made_results.entry(0.75, examples=4)
    made_results.write(folder, tests={"clean": entry}, epochs=3, seconds=90)
    predictions = Predictions(
        index=np.arange(4),
        label=np.zeros(4, np.int32),
        probabilities=np.eye(2, dtype=np.float32)[[1, 0, 0, 0]],
        files=np.array([f"test_batch/{number:05d}" for number in range(4)]),
        group=np.arange(4),
    )
    made_results.write_predictions(folder, predictions)
    ((network, accuracy, leaking, others, minutes, run),) = cifar10_table.rows(tmp_path)
    assert network.endswith(" epochs")
    assert "from scratch, " in network
    assert accuracy.startswith("75.0 %")
    assert leaking.startswith("100.0 %")
    assert leaking.endswith("of 1")
    assert others.startswith("66.7 %")
    assert (minutes, run) == ("2", f"`{cifar10_table.RUNS[-1]}`")
