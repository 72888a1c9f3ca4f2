"""Metrics of a whole set, from sums over its batches."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from jaxnets.training.step import PREDICTIONS, PROBABILITIES, add_metrics


@dataclasses.dataclass(frozen=True)
class Scores:
    """The loss over a whole set, and the number of its examples; all that there is of a regression."""

    loss: float
    examples: int


@dataclasses.dataclass(frozen=True)
class ClassScores(Scores):
    """Of a classification also the accuracy and confusion[label, prediction]."""

    accuracy: float
    correct: int
    confusion: np.ndarray
    probabilities: np.ndarray | None = None
    """float[N, K] in the order of the examples, where the step gives them."""


def evaluate(
    step: Callable[[Any, Any], dict[str, jax.Array]],
    state: Any,
    batches: Iterable[Any],
    *,
    expected: int,
    classes: int = 0,
) -> Scores:
    """Runs an evaluation step over all batches and divides once, or not at all where the loss is a sum.

    Gives ClassScores where the examples have classes, of which there are `classes`. Raises AssertionError
    unless exactly `expected` examples were counted.
    """
    sums: dict[str, Any] = {}
    shares: list[np.ndarray] = []
    answers: list[np.ndarray] = []
    for message in _prefetch_one(step(state, batch) for batch in batches):
        shares += [message.pop(PROBABILITIES)] if PROBABILITIES in message else []
        answers += [message.pop(PREDICTIONS)] if PREDICTIONS in message else []
        sums = add_metrics(sums, message)
    counted = round(sums.get("examples", 0))
    if counted != expected:
        raise AssertionError(f"{counted} examples were counted instead of {expected}")
    loss = sums["loss"] / sums.get("weight_sum", 1)
    if "correct" not in sums:
        return Scores(loss, counted)
    return ClassScores(
        loss=loss,
        examples=counted,
        accuracy=sums["correct"] / sums["examples"],
        correct=round(sums["correct"]),
        confusion=_confusion(np.concatenate(answers)[:expected], classes),
        probabilities=np.concatenate(shares)[:expected] if shares else None,  # padding is last
    )


def _confusion(answers: np.ndarray, classes: int) -> np.ndarray:
    """int64[classes, classes] by (label, prediction), of int[N, 2]."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (answers[:, 0], answers[:, 1]), 1)
    return matrix


def _prefetch_one(under_way: Iterable[dict[str, jax.Array]]) -> Iterator[dict[str, Any]]:
    """Each in its turn, fetched when the next one is under way: the device does not wait for the host."""
    before: dict[str, jax.Array] | None = None
    for one in under_way:
        if before is not None:
            yield jax.device_get(before)
        before = one
    if before is not None:
        yield jax.device_get(before)
