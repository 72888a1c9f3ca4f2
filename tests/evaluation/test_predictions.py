"""Saving and loading predictions, and the predictions stored by a run."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxnets.errors import CheckpointError
from jaxnets.evaluation.predictions import Predictions, load_predictions, predictions_path


def _predictions(group: list[int]) -> Predictions:
    probabilities = np.array([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]], np.float32)
    return Predictions(
        index=np.array([4, 7, 9]),
        label=np.array([0, 1, 1], np.int32),
        probabilities=probabilities,
        files=np.array(["a/1.png", "b/longer.png", "b/2.png"]),
        group=np.array(group),
    )


def test_save_and_load(tmp_path: Path) -> None:
    path = predictions_path(tmp_path, "validation")
    _predictions([0, 3, 3]).save(path)
    loaded = load_predictions(path)
    for name in ("index", "label", "probabilities", "files", "group"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(_predictions([0, 3, 3]), name))
    assert loaded.probabilities.dtype == np.float32
    assert loaded.correct.tolist() == [True, False, True]
    assert loaded.groups_known
    assert not _predictions([-1, -1, -1]).groups_known


def test_missing_and_damaged_files_raise(tmp_path: Path) -> None:
    path = predictions_path(tmp_path)
    with pytest.raises(CheckpointError, match=r"is missing: python scripts/evaluate.py"):
        load_predictions(path)
    _predictions([0, 0, 0]).save(path)
    content = path.read_bytes()
    for damaged in (content[:40], content[: len(content) // 2], b""):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="is damaged"):
            load_predictions(path)


def test_run_stores_its_test_predictions(trained: Path) -> None:
    stored = load_predictions(predictions_path(trained))
    result = json.loads((trained / "result.json").read_text())
    assert stored.correct.mean() == pytest.approx(result["test_accuracy"])
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (stored.label, stored.predicted), 1)
    assert confusion.tolist() == result["tests"]["clean"]["confusion"]
    np.testing.assert_allclose(stored.probabilities.sum(axis=1), 1, rtol=1e-5)
    rows = (trained / "split.csv").read_text().splitlines()[1:]
    tested = {row.split(",")[1]: int(row.split(",")[0]) for row in rows if ",test," in row}
    assert dict(zip(stored.files.tolist(), stored.index.tolist(), strict=True)) == tested
