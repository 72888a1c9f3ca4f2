"""Metrics of a whole set, from sums over its batches."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jaxnets.training.step import add_metrics


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


def evaluate(
    step: Callable[[Any, Any], dict[str, jax.Array]],
    state: Any,
    batches: Iterable[Any],
    *,
    expected: int,
) -> Scores:
    """Runs an evaluation step over all batches and divides once, or not at all where the loss is a sum.

    Gives ClassScores where the examples have classes. Raises AssertionError unless exactly `expected`
    examples were counted.
    """
    sums: dict[str, Any] = {}
    before: dict[str, jax.Array] | None = None
    for batch in batches:
        under_way = step(state, batch)
        if (
            before is not None
        ):  # fetched one batch late, so that the device does not wait for the host
            sums = add_metrics(sums, jax.device_get(before))
        before = under_way
    if before is not None:
        sums = add_metrics(sums, jax.device_get(before))
    counted = round(sums.get("examples", 0))
    if counted != expected:
        raise AssertionError(f"{counted} examples were counted instead of {expected}")
    loss = sums["loss"] / sums.get("normalizer", 1)
    if "correct" not in sums:
        return Scores(loss, counted)
    return ClassScores(
        loss=loss,
        examples=counted,
        accuracy=sums["correct"] / sums["examples"],
        correct=round(sums["correct"]),
        confusion=np.rint(sums["confusion"]).astype(np.int64),
    )
