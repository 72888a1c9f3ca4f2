"""Evaluation scores, saving and loading predictions, and the predictions stored by a run."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxnets.errors import CheckpointError
from jaxnets.evaluation.predictions import (
    ClassScores,
    Predictions,
    Scores,
    evaluate,
    load_predictions,
    predictions_name,
)
from jaxnets.training.step import PREDICTIONS


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
    path = tmp_path / predictions_name("validation")
    path.parent.mkdir()
    path.write_bytes(_predictions([0, 3, 3]).to_bytes())
    loaded = load_predictions(path)
    for name in ("index", "label", "probabilities", "files", "group"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(_predictions([0, 3, 3]), name))
    assert loaded.probabilities.dtype == np.float32
    assert loaded.correct.tolist() == [True, False, True]
    assert loaded.groups_known
    assert not _predictions([-1, -1, -1]).groups_known


def test_missing_and_damaged_files_raise(tmp_path: Path) -> None:
    path = tmp_path / predictions_name()
    with pytest.raises(CheckpointError, match=r"is missing: python scripts/evaluate.py"):
        load_predictions(path)
    path.parent.mkdir()
    path.write_bytes(_predictions([0, 0, 0]).to_bytes())
    content = path.read_bytes()
    for damaged in (content[:40], content[: len(content) // 2], b""):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="is damaged"):
            load_predictions(path)


def test_run_stores_its_test_predictions(trained: Path) -> None:
    stored = load_predictions(trained / predictions_name())
    result = json.loads((trained / "result.json").read_text())
    assert stored.correct.mean() == pytest.approx(result["test_accuracy"])
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (stored.label, stored.predicted), 1)
    assert confusion.tolist() == result["tests"]["clean"]["confusion"]
    np.testing.assert_allclose(stored.probabilities.sum(axis=1), 1, rtol=1e-5)
    rows = (trained / "split.csv").read_text().splitlines()[1:]
    tested = {row.split(",")[1]: int(row.split(",")[0]) for row in rows if ",test," in row}
    assert dict(zip(stored.files.tolist(), stored.index.tolist(), strict=True)) == tested


def test_wrong_number_of_examples_raises() -> None:
    sums = {
        "loss": np.float32(3.0),
        "weight_sum": np.float32(3.0),
        "correct": np.float32(2.0),
        "examples": np.float32(3.0),
        PREDICTIONS: np.array([[0, 0], [1, 1], [0, 1]], np.int32),
    }

    def step(state: object, batch: object) -> dict[str, np.ndarray]:
        return dict(sums)

    scores = evaluate(step, None, [None, None], expected=6, classes=2)
    assert isinstance(scores, ClassScores)
    assert (scores.loss, scores.examples, scores.accuracy, scores.correct) == (1.0, 6, 4 / 6, 4)
    assert scores.confusion.tolist() == [[2, 2], [0, 2]]
    with pytest.raises(AssertionError, match="6 examples were counted instead of 7"):
        evaluate(step, None, [None, None], expected=7, classes=2)


def test_summed_loss_is_not_averaged() -> None:
    sums = {"loss": np.float32(3.0), "examples": np.float32(3.0)}
    assert evaluate(lambda state, batch: sums, None, [None] * 2, expected=6) == Scores(6.0, 6)
