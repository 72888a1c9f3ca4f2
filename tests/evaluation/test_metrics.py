"""Metrics of a dataset: counts and averages."""

import numpy as np
import pytest

from jaxnets.evaluation.metrics import ClassScores, Scores, evaluate
from jaxnets.training.step import PREDICTIONS


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
