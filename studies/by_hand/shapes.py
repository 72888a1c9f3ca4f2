"""Shape checks of MLP parameters, inputs and labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnets.errors import ConfigError

Shape = tuple[int, ...]


def check(parameters: Sequence[tuple[Any, Any]], activations: Sequence[str]) -> None:
    """Raises ConfigError if the layers (weight [neurons, inputs], bias [neurons]) do not form a network."""
    if not parameters:
        raise ConfigError("a network needs at least one layer: parameters are empty")
    if len(parameters) != len(activations):
        raise ConfigError(f"{len(parameters)} layers need as many activations, not {activations}")
    before: Shape | None = None
    for number, (weight, bias) in enumerate(parameters, 1):
        weights, biases = _shape(weight, f"W{number}"), _shape(bias, f"b{number}")
        if len(weights) != 2 or 0 in weights:
            raise ConfigError(f"W{number} has shape {weights}; weights are (neurons, inputs)")
        if before is not None and before[0] != weights[1]:
            raise ConfigError(
                f"the layers do not match: W{number} has shape {weights} and takes {weights[1]} "
                f"inputs, but W{number - 1} has shape {before} and returns {before[0]}"
            )
        if biases != weights[:1]:
            column = ": a column would broadcast along the batch" if len(biases) == 2 else ""
            raise ConfigError(
                f"b{number} has shape {biases}, but W{number} {weights} needs {weights[:1]}{column}"
            )
        before = weights


def check_samples(parameters: Sequence[tuple[Any, Any]], inputs: Any, labels: Any) -> None:
    """Raises ConfigError unless inputs [samples, inputs] and labels [samples, outputs] match the layers."""
    first, last = _shape(parameters[0][0], "W1"), _shape(parameters[-1][0], "the last W")
    rows, targets = _shape(inputs, "X"), _shape(labels, "y")
    if len(rows) != 2 or rows[0] == 0 or rows[1] != first[1]:
        raise ConfigError(f"X has shape {rows}, but W1 {first} needs (samples, {first[1]})")
    expected = (rows[0], last[0])
    if targets != expected:
        raise ConfigError(
            f"y has shape {targets}, but {rows[0]} samples and an output layer of {last[0]} need {expected}"
        )


def _shape(values: Any, name: str) -> Shape:
    try:
        return np.shape(values)
    except ValueError as error:
        raise ConfigError(f"{name} is ragged: its rows have different lengths") from error
