"""Metrics of a whole set, from sums over its batches."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jaxnets.training.step import add_metrics


@dataclasses.dataclass(frozen=True)
class Scores:
    """Loss, accuracy, the number of examples, and confusion[label, prediction] of a whole set."""

    loss: float
    accuracy: float
    examples: int
    correct: int
    confusion: np.ndarray


def evaluate(
    step: Callable[[Any, Any], dict[str, jax.Array]],
    state: Any,
    batches: Iterable[Any],
    *,
    expected: int,
) -> Scores:
    """Runs an evaluation step over all batches and divides once.

    Raises AssertionError unless exactly `expected` examples were counted.
    """
    sums: dict[str, Any] = {}
    for batch in batches:
        sums = add_metrics(sums, jax.device_get(step(state, batch)))
    counted = round(sums.get("examples", 0))
    if counted != expected:
        raise AssertionError(f"{counted} examples were counted instead of {expected}")
    return Scores(
        loss=sums["loss"] / sums["normalizer"],
        accuracy=sums["correct"] / sums["examples"],
        examples=counted,
        correct=round(sums["correct"]),
        confusion=np.rint(sums["confusion"]).astype(np.int64),
    )
