"""Report B's ReLU variant of the network: which printed values can be reproduced."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxnets import reported
from jaxnets.runtime import xla
from studies.by_hand import mlp, scalar_network
from studies.mlp_proof.agreement import FLOAT64_LIMIT
from studies.mlp_proof.case import HALF, Case
from studies.mlp_proof.check import Check, condition, max_difference
from studies.mlp_proof.implementations import training_loss

ACTIVATIONS = ("relu", "relu", "tanh")
DRAWS = 1000
HALF_UNIT = 5e-4
"""Gradients are printed with 3 decimals."""
SLACK = 1 + 1e-9
"""Printed values are not exact doubles."""


@dataclasses.dataclass(frozen=True)
class Draws:
    """The largest errors over random networks in the report's ranges."""

    count: int
    max_difference: float  # of a gradient: by hand, scalar engine, jax.grad
    delta_3: float  # largest difference of delta_3 from error · (1 - prediction²)
    rows: float  # largest difference of jax.grad's ∂E/∂W1 from delta_1 · X
    bound_ratio: float  # largest |delta_1| / (0.5 Σ|delta_2|)


@dataclasses.dataclass(frozen=True)
class ReluVariant:
    """The first sample's gradients as printed, and the values derived from them."""

    delta_3: float  # error · (1 - prediction²), from the printed prediction
    delta_3_printed: float
    errors: float  # largest difference of a printed error from prediction - target
    delta_1: tuple[float, ...]  # from each row of ∂E/∂W1
    rows: float  # largest difference of delta_1 · x from the printed rows
    w3: tuple[float, ...]  # ∂E/∂b2 over ∂E/∂b3
    w3_range: float
    w2_range: float
    bound: float  # the largest |delta_1| that weights of w2_range can give
    impossible: tuple[int, ...]  # rows of ∂E/∂W1 that need a larger |delta_1|
    draws: Draws

    def checks(self) -> list[Check]:
        """Returns the checks of the printed numbers and of the random networks."""
        draws = self.draws
        return [
            Check("ReLU: errors are prediction - target", self.errors, 1e-9),
            Check(
                "ReLU: delta_3 = error (1 - prediction²)",
                abs(self.delta_3 - self.delta_3_printed),
                HALF_UNIT * SLACK,
            ),
            Check("ReLU: rows of dW1 are delta_1 x", self.rows, HALF_UNIT * SLACK),
            Check("ReLU: W3 is in its range", max(map(abs, self.w3)), self.w3_range),
            condition("ReLU: only the first row of dW1 is impossible", self.impossible == (0,)),
            Check("ReLU: by hand, scalar engine, jax.grad", draws.max_difference, FLOAT64_LIMIT),
            Check("ReLU: delta_3 of random networks", draws.delta_3, FLOAT64_LIMIT),
            Check("ReLU: dW1 of random networks is delta_1 X", draws.rows, FLOAT64_LIMIT),
            Check("ReLU: delta_1 of random networks is within the bound", draws.bound_ratio, SLACK),
        ]

    def as_json(self) -> dict[str, Any]:
        """Returns a JSON-serialisable dictionary."""
        return dataclasses.asdict(self)


def examine(case: Case, draws: int = DRAWS) -> ReluVariant:
    """Examines report B's printed values, with the inputs of report A; needs JAX in double precision."""
    printed = reported.document("mlp_relu")
    ranges, first = printed["initialisation"], printed["gradients_first_sample"]
    table = printed["forward"]["table"]
    x, prediction = case.inputs[0], table[0]["prediction"]
    delta_3, delta_2 = first["b3"], np.array(first["b2"])
    rows = np.array(first["W1"])
    names = ("hidden_1", "hidden_2", "output")
    w1_range, w2_range, w3_range = (ranges[name]["W_range"][1] for name in names)
    delta_1 = np.array([_slope(row, x) for row in rows])
    bound = float(w2_range * np.sum(np.abs(delta_2) + HALF_UNIT))
    min_delta_1 = np.abs(delta_1) - HALF_UNIT / np.min(np.abs(x))
    return ReluVariant(
        delta_3=table[0]["error"] * (1 - prediction**2),
        delta_3_printed=delta_3,
        errors=max(abs(row["prediction"] - row["target"] - row["error"]) for row in table),
        delta_1=tuple(delta_1.tolist()),
        rows=max_difference(np.outer(delta_1, x), rows),
        w3=tuple((delta_2 / delta_3).tolist()),
        w3_range=w3_range,
        w2_range=w2_range,
        bound=bound,
        impossible=tuple(np.flatnonzero(min_delta_1 > bound).tolist()),
        draws=draw_networks(case, draws, (w1_range, w2_range, w3_range)),
    )


def _slope(row: np.ndarray, x: np.ndarray) -> float:
    """Returns the midpoint of all numbers whose product with x rounds to the printed row."""
    ends = np.sort((row + np.array([[-HALF_UNIT], [HALF_UNIT]])) / x, axis=0)
    return float((ends[0].max() + ends[1].min()) / 2)


def draw_networks(case: Case, count: int, ranges: Sequence[float], seed: int = 0) -> Draws:
    """Compares the gradients of random networks, with one range of weights per layer."""
    networks = _networks(case, count, ranges, seed)
    step: dict[str, Any] = {**case.step, "activations": ACTIVATIONS, "loss": HALF}
    sizes = (case.inputs.shape[1], *(len(layer.bias) for layer in case.parameters))
    loss = training_loss(sizes, ACTIVATIONS, HALF)
    gradient = jax.grad(lambda network: loss(network, case.inputs, case.labels))
    both = xla.jit(jax.vmap(lambda network: (mlp.gradient_step(network, **step), gradient(network))))
    by_hand, grad = jax.device_get(both(networks))
    differences = [max_difference(by_hand.gradients, grad)]
    for index in range(count):
        network, trace = jax.tree.map(lambda values: values[index], (networks, by_hand))  # noqa: B023
        differences.append(max_difference(trace, scalar_network.gradient_step(network, **step)))
    prediction, (delta_1, delta_2, delta_3) = by_hand.a[-1], by_hand.delta
    bounds = ranges[1] * np.abs(delta_2).sum(axis=1, keepdims=True)
    return Draws(
        count=count,
        max_difference=float(np.max(differences)),
        delta_3=max_difference(delta_3, (prediction - case.labels.T) * (1 - prediction**2)),
        rows=max_difference(grad[0].weight, delta_1 @ case.inputs),
        bound_ratio=float(np.max(np.abs(delta_1) / np.maximum(bounds, 1e-300))),
    )


def _networks(case: Case, count: int, ranges: Sequence[float], seed: int) -> mlp.Parameters:
    """Returns layers with a leading axis of `count`; weights and biases are uniform in ± their range."""
    generator = np.random.default_rng(seed)
    return tuple(
        mlp.Layer(*(generator.uniform(-bound, bound, (count, *values.shape)) for values in layer))
        for layer, bound in zip(case.parameters, ranges, strict=True)
    )
