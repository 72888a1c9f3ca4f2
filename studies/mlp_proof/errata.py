"""Errata of the report: its formulas evaluated as printed, compared with the correct ones."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from studies.by_hand import mlp
from studies.mlp_proof.case import FORWARD_DECIMALS, MEAN, SUM, Case, flat
from studies.mlp_proof.check import max_difference
from studies.mlp_proof.implementations import Implementation, by_hand_step

EQUAL = 1e-12


@dataclasses.dataclass(frozen=True)
class Erratum:
    """A printed formula, the correct one, and the difference of their results."""

    printed: str
    correct: str
    difference: float | None  # the largest; None if the printed formula cannot be evaluated
    description: str

    def format_result(self) -> str:
        """Returns the result of the printed formula as text."""
        if self.difference is None:
            return self.description
        if self.difference < EQUAL:
            return f"equal{self.description}"
        return f"runs, off by {self.difference:.2f}{self.description}"


@dataclasses.dataclass(frozen=True)
class Rounded:
    """How many printed values do not follow from the 3-decimal weights, and the largest differences."""

    values: int
    off: int
    forward_values: int
    forward_off: int
    forward_largest: float
    backward_values: int
    backward_off: int
    backward_largest: float


@dataclasses.dataclass(frozen=True)
class Errata:
    """All printed formulas that differ, and the effect of rounded weights."""

    formulas: tuple[Erratum, ...]
    rounded: Rounded

    def as_json(self) -> dict[str, Any]:
        """Returns a JSON-serialisable dictionary."""
        return dataclasses.asdict(self)


def find(case: Case) -> Errata:
    """Evaluates every printed formula; JAX must be in double precision."""
    trace = by_hand_step(case.parameters, **case.step, loss=SUM)
    return Errata((*_products(case, trace), *_derivatives(case, trace)), _rounded(case))


def _products(case: Case, trace: mlp.Trace) -> list[Erratum]:
    """Returns the formulas with missing transposes; the dot is a matrix product."""
    x, rate = case.inputs, case.learning_rate
    w1, w2, w3 = (np.asarray(layer.weight) for layer in case.parameters)
    z1, z2, _ = map(np.asarray, trace.z)
    a1, a2, _ = map(np.asarray, trace.a)
    d1, d2, d3 = map(np.asarray, trace.delta)
    b1 = np.asarray(case.parameters[0].bias)[:, None]
    slope1, slope2 = 1 - np.tanh(z1) ** 2, 1 - np.tanh(z2) ** 2
    new1, new2, new3 = (layer.weight for layer in trace.updated)
    return [
        _erratum("z1 = W1·X + b1", "W1·Xᵀ + b1", lambda: _dot(w1, x) + b1, z1),
        _erratum("δ2 = W3·δ3·(1-tanh²z2)", "(W3ᵀ·δ3) ⊙ (1-tanh²z2)", lambda: _dot(w3, d3) * slope2, d2),
        _erratum("δ1 = W2·δ2·(1-tanh²z1)", "(W2ᵀ·δ2) ⊙ (1-tanh²z1)", lambda: _dot(w2, d2) * slope1, d1),
        _erratum(
            "W1' = W1 - η δ1·X",
            "unchanged",
            lambda: w1 - rate * _dot(d1, x),
            new1,
            ": the rows of X are samples",
        ),
        _erratum("W2' = W2 - η δ2·a1", "W2 - η δ2·a1ᵀ", lambda: w2 - rate * _dot(d2, a1), new2),
        _erratum("W3' = W3 - η δ3·a2", "W3 - η δ3·a2ᵀ", lambda: w3 - rate * _dot(d3, a2), new3),
    ]


def _derivatives(case: Case, trace: mlp.Trace) -> list[Erratum]:
    """Returns the formulas with wrong derivatives or sums."""
    x, samples = case.inputs, len(case.inputs)
    d1, _, d3 = map(np.asarray, trace.delta)
    before, after = case.parameters, trace.updated
    first = by_hand_step(case.parameters, **case.first_step, loss=SUM)
    mean = by_hand_step(case.parameters, **case.step, loss=MEAN)
    ratio = np.mean(flat(mean.gradients) / flat(trace.gradients))
    error = 2 * (np.asarray(trace.a[-1]) - case.labels.T)
    slope1 = 1 - np.asarray(trace.a[0]) ** 2

    def biases_summed_twice() -> np.ndarray:
        gradients = np.concatenate([layer.bias for layer in trace.gradients])
        return np.concatenate([b for _, b in before]) - case.learning_rate * samples * gradients

    return [
        _erratum(
            "b' = b - η Σ ∂E/∂b",
            "b - η ∂E/∂b",
            biases_summed_twice,
            np.concatenate([layer.bias for layer in after]),
            f": {samples} times the gradient",
        ),
        _erratum(
            "w' = w - η ∂E/∂w", "w - η Σ ∂E/∂w", lambda: flat(first.updated), flat(after), ": Xs1 only, no Σ"
        ),
        _erratum(
            "Loss = (1/n) Σ(ŷ-y)²",
            "Σ(ŷ-y)²",
            lambda: flat(mean.updated),
            flat(after),
            f": all gradients times {ratio:g}",
        ),
        _erratum(
            "∂E/∂w3 = δ3 ∂z3/∂x",
            "δ3 ∂z3/∂w3 = δ3·a2ᵀ",
            lambda: d3.sum() * np.asarray(before[-1].weight),
            trace.gradients[-1].weight,
            ": that is W3, not a2",
        ),
        _erratum(
            "∂E/∂w1 = 2(ŷ-y)(1-tanh²z1)·x",
            "δ1·x",
            lambda: (error * slope1) @ x,
            d1 @ x,
            ": that of the output layer",
        ),
    ]


def _erratum(
    printed: str, correct: str, evaluate: Callable[[], Any], expected: Any, description: str = ""
) -> Erratum:
    try:
        result = np.asarray(evaluate())
    except ValueError as error:
        return Erratum(printed, correct, None, str(error))
    return Erratum(printed, correct, max_difference(result, expected), description)


def _dot(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    try:
        return left @ right
    except ValueError as error:
        raise ValueError(f"does not multiply: {left.shape}·{right.shape}") from error


def _rounded(case: Case) -> Rounded:
    """Compares the tables with those computed from the printed 3-decimal weights."""
    rounded = Implementation.of("rounded", by_hand_step(case.rounded, **case.step, loss=SUM))
    forward = [table for table in case.tables if table.decimals == FORWARD_DECIMALS]
    backward = [table for table in case.tables if table.decimals != FORWARD_DECIMALS]
    forward_off, backward_off = (
        sum(table.count_mismatches(rounded.tables[table.name]) for table in tables)
        for tables in (forward, backward)
    )
    forward_largest, backward_largest = (
        max(table.difference(rounded.tables[table.name]) for table in tables)
        for tables in (forward, backward)
    )
    forward_values, backward_values = (
        sum(table.values.size for table in tables) for tables in (forward, backward)
    )
    return Rounded(
        values=forward_values + backward_values,
        off=forward_off + backward_off,
        forward_values=forward_values,
        forward_off=forward_off,
        forward_largest=forward_largest,
        backward_values=backward_values,
        backward_off=backward_off,
        backward_largest=backward_largest,
    )
