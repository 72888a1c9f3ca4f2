"""Report B's ReLU variant of the network: which printed values can be reproduced."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import reported
from jaxnets.models.mlp import MLP
from jaxnets.runtime import xla
from jaxnets.training.loss import SQUARED_ERRORS
from studies.by_hand import mlp, scalar_network
from studies.mlp_proof.agreement import FLOAT64_LIMIT
from studies.mlp_proof.case import HALF, Case
from studies.mlp_proof.check import Check, fact
from studies.mlp_proof.implementations import as_params

ACTIVATIONS = ("relu", "relu", "tanh")
DRAWS = 1000
HALF_UNIT = 5e-4
"""Gradients are printed with 3 decimals."""
SLACK = 1 + 1e-9
"""What is printed is no exact double."""


@dataclasses.dataclass(frozen=True)
class Draws:
    """Networks drawn from the report's ranges, with its bounds: what every one of them must keep."""

    count: int
    among_ways: float  # largest difference of a gradient: by hand, scalar engine, jax.grad
    delta_3: float  # largest difference of delta_3 to error · (1 - prediction²)
    rows: float  # largest difference of jax.grad's ∂E/∂W1 to delta_1 · X
    share_of_bound: float  # largest |delta_1| / (0.5 Σ|delta_2|)


@dataclasses.dataclass(frozen=True)
class ReluVariant:
    """The first sample's gradients as printed, and what they say."""

    delta_3: float  # error · (1 - prediction²), from the printed prediction
    delta_3_printed: float
    errors: float  # largest difference of a printed error to prediction - target
    delta_1: tuple[float, ...]  # from each row of ∂E/∂W1
    rows: float  # largest difference of delta_1 · x to the printed rows
    w3: tuple[float, ...]  # ∂E/∂b2 over ∂E/∂b3
    w3_range: float
    w2_range: float
    bound: float  # the largest |delta_1| that weights of w2_range can give
    impossible: tuple[int, ...]  # rows of ∂E/∂W1 that need more
    draws: Draws

    def checks(self) -> list[Check]:
        """The relations that any such network keeps, of the printed numbers and of drawn networks."""
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
            fact("ReLU: the first row of dW1, and no other, is impossible", self.impossible == (0,)),
            Check("ReLU: by hand, scalar engine, jax.grad", draws.among_ways, FLOAT64_LIMIT),
            Check("ReLU: delta_3 of drawn networks", draws.delta_3, FLOAT64_LIMIT),
            Check("ReLU: dW1 of drawn networks is delta_1 X", draws.rows, FLOAT64_LIMIT),
            Check("ReLU: delta_1 of drawn networks within the bound", draws.share_of_bound, SLACK),
        ]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return dataclasses.asdict(self)


def examine(case: Case, draws: int = DRAWS) -> ReluVariant:
    """The relations of what report B prints; inputs are report A's, which its gradients point along.

    JAX must compute in doubles.
    """
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
    least = np.abs(delta_1) - HALF_UNIT / np.min(np.abs(x))
    return ReluVariant(
        delta_3=table[0]["error"] * (1 - prediction**2),
        delta_3_printed=delta_3,
        errors=max(abs(row["prediction"] - row["target"] - row["error"]) for row in table),
        delta_1=tuple(delta_1.tolist()),
        rows=float(np.max(np.abs(np.outer(delta_1, x) - rows))),
        w3=tuple((delta_2 / delta_3).tolist()),
        w3_range=w3_range,
        w2_range=w2_range,
        bound=bound,
        impossible=tuple(np.flatnonzero(least > bound).tolist()),
        draws=draw(case, draws, (w1_range, w2_range, w3_range)),
    )


def _slope(row: np.ndarray, x: np.ndarray) -> float:
    """The middle of all numbers whose product with x rounds to the printed row."""
    ends = np.sort((row + np.array([[-HALF_UNIT], [HALF_UNIT]])) / x, axis=0)
    return float((ends[0].max() + ends[1].min()) / 2)


def draw(case: Case, count: int, ranges: Sequence[float], seed: int = 0) -> Draws:
    """Draws networks from the report's ranges, by layer, and takes their gradients three ways."""
    networks = _networks(case, count, ranges, seed)
    step: dict[str, Any] = {**case.step, "activations": ACTIVATIONS, "loss": HALF}
    both = xla.jit(jax.vmap(lambda network: (mlp.gradient_step(network, **step), _gradient(case)(network))))
    by_hand, grad = jax.device_get(both(networks))
    among = [_largest(by_hand.gradients, grad)]
    for number in range(count):
        traced = scalar_network.gradient_step(_one(networks, number), **step)
        among.append(_largest(_one(by_hand, number), traced))
    prediction, (delta_1, delta_2, delta_3) = by_hand.a[-1], by_hand.delta
    bounds = ranges[1] * np.abs(delta_2).sum(axis=1, keepdims=True)
    return Draws(
        count=count,
        among_ways=float(np.max(among)),
        delta_3=_largest(delta_3, (prediction - case.labels.T) * (1 - prediction**2)),
        rows=_largest(grad[0].weight, delta_1 @ case.inputs),
        share_of_bound=float(np.max(np.abs(delta_1) / np.maximum(bounds, 1e-300))),
    )


def _networks(case: Case, count: int, ranges: Sequence[float], seed: int) -> mlp.Parameters:
    """Layers with a leading axis of `count`, uniform on ± their range, weights and biases alike."""
    generator = np.random.default_rng(seed)
    return tuple(
        mlp.Layer(*(generator.uniform(-bound, bound, (count, *values.shape)) for values in layer))
        for layer, bound in zip(case.parameters, ranges, strict=True)
    )


def _one(tree: Any, number: int) -> Any:
    return jax.tree.map(lambda values: values[number], tree)


def _gradient(case: Case) -> Any:
    """`jax.grad` of the Linen MLP with the loss of the training code, as layers [neurons, inputs]."""
    sizes = (case.inputs.shape[1], *(len(layer.bias) for layer in case.parameters))
    model = MLP(layer_sizes=sizes, activations=ACTIVATIONS, dtype=jnp.float64)
    loss, ones = SQUARED_ERRORS[HALF], jnp.ones(len(case.inputs))

    def of_network(network: mlp.Parameters) -> jax.Array:
        outputs: Any = model.apply({"params": as_params(network)}, jnp.asarray(case.inputs))
        return loss(outputs, jnp.asarray(case.labels), ones).total

    return jax.grad(of_network)


def _largest(one: Any, other: Any) -> float:
    differences = jax.tree.map(lambda p, q: np.max(np.abs(np.asarray(p) - np.asarray(q))), one, other)
    return float(np.max(jax.tree.leaves(differences)))
