"""Metrics of a data set, from sums over its batches."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from jaxnets.training.step import PREDICTIONS, PROBABILITIES, add_metrics


@dataclasses.dataclass(frozen=True)
class Scores:
    """Loss over a data set and its number of examples; a regression has nothing else."""

    loss: float
    examples: int


@dataclasses.dataclass(frozen=True)
class ClassScores(Scores):
    """Scores of a classification, with confusion int64[label, prediction]."""

    accuracy: float
    correct: int
    confusion: np.ndarray
    probabilities: np.ndarray | None = None
    """float[N, K] in the order of the examples, if the step returns them."""


def evaluate(
    step: Callable[[Any, Any], dict[str, jax.Array]],
    state: Any,
    batches: Iterable[Any],
    *,
    expected: int,
    classes: int = 0,
) -> Scores:
    """Runs an evaluation step over all batches, adds up its metrics and divides once at the end.

    The loss is not divided if the step returns no `weight_sum`. Returns ClassScores for examples with
    `classes` classes. Raises AssertionError unless exactly `expected` examples were counted.
    """
    sums: dict[str, Any] = {}
    probabilities: list[np.ndarray] = []
    predictions: list[np.ndarray] = []
    for metrics in _prefetch_one(step(state, batch) for batch in batches):
        probabilities += [metrics.pop(PROBABILITIES)] if PROBABILITIES in metrics else []
        predictions += [metrics.pop(PREDICTIONS)] if PREDICTIONS in metrics else []
        sums = add_metrics(sums, metrics)
    counted = round(sums.get("examples", 0))
    if counted != expected:
        raise AssertionError(f"{counted} examples were counted instead of {expected}")
    loss = sums["loss"] / sums.get("weight_sum", 1)
    if "correct" not in sums:
        return Scores(loss, counted)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, tuple(np.concatenate(predictions)[:expected].T), 1)  # padding is last
    return ClassScores(
        loss=loss,
        examples=counted,
        accuracy=sums["correct"] / sums["examples"],
        correct=round(sums["correct"]),
        confusion=confusion,
        probabilities=np.concatenate(probabilities)[:expected] if probabilities else None,
    )


def _prefetch_one(outputs: Iterable[dict[str, jax.Array]]) -> Iterator[dict[str, Any]]:
    """Fetches each output after dispatching the next step, so that the device never waits for the host."""
    for previous, _ in itertools.pairwise(itertools.chain(outputs, (None,))):
        yield jax.device_get(previous)
