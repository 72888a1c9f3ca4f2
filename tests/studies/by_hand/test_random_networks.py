"""By hand, the scalar engine and jax.grad agree on networks of random sizes."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.models.mlp import MLP
from jaxnets.training.loss import SQUARED_ERRORS
from studies.by_hand import mlp, scalar_network
from studies.mlp_proof.implementations import as_params

ACTIVATIONS = ("tanh", "relu", "leaky_relu", "sigmoid", "identity")
LARGEST, DEEPEST = 5, 3
LIMIT = 1e-12


@dataclasses.dataclass(frozen=True)
class _Architecture:
    """The sizes of a network, of its batch, and what is minimised."""

    sizes: tuple[int, ...]
    samples: int
    activations: tuple[str, ...]
    loss: str

    @property
    def step(self) -> dict[str, Any]:
        return {"activations": self.activations, "loss": self.loss, "learning_rate": 0.1}


def _random_architecture(generator: np.random.Generator) -> _Architecture:
    layers = generator.integers(1, DEEPEST + 1)
    return _Architecture(
        sizes=tuple(generator.integers(1, LARGEST + 1, layers + 1).tolist()),
        samples=int(generator.integers(1, LARGEST + 1)),
        activations=tuple(generator.choice(ACTIVATIONS, layers).tolist()),
        loss=str(generator.choice(list(SQUARED_ERRORS))),
    )


def _largest_difference(architecture: _Architecture, draws: int, generator: np.random.Generator) -> float:
    """Of losses, gradients, updated parameters and all that by hand and scalar engine show."""

    def drawn(*shape: int) -> np.ndarray:
        return generator.uniform(-1, 1, (draws, *shape))

    sizes = architecture.sizes
    parameters = tuple(
        mlp.Layer(drawn(neurons, inputs), drawn(neurons)) for inputs, neurons in itertools.pairwise(sizes)
    )
    x, y = drawn(architecture.samples, sizes[0]), drawn(architecture.samples, sizes[-1])

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    @jax.vmap
    def both(parameters: mlp.Parameters, x: jax.Array, y: jax.Array) -> tuple[mlp.Trace, Any]:
        by_hand = mlp.gradient_step(parameters, x, y, **architecture.step)
        return by_hand, jax.value_and_grad(_loss(architecture))(parameters, x, y)

    by_hand, by_grad = jax.device_get(both(parameters, x, y))
    differences = [_largest((by_hand.loss, by_hand.gradients), by_grad)]
    for number in range(draws):
        one = jax.tree.map(lambda values: values[number], (parameters, x, y, by_hand))  # noqa: B023
        engine = scalar_network.gradient_step(*one[:3], **architecture.step)
        differences.append(_largest(one[3], engine))
    return float(np.max(differences))


def _loss(architecture: _Architecture) -> Any:
    """The Linen MLP's loss, as the training code takes it."""
    model = MLP(architecture.sizes, architecture.activations, dtype=jnp.float64)
    ones = jnp.ones(architecture.samples)

    def loss(parameters: mlp.Parameters, x: jax.Array, y: jax.Array) -> jax.Array:
        outputs: Any = model.apply({"params": as_params(parameters)}, x)
        terms = SQUARED_ERRORS[architecture.loss](outputs, y, ones)
        return terms.total if terms.weight_sum is None else terms.total / terms.weight_sum

    return loss


def _largest(one: Any, other: Any) -> float:
    differences = jax.tree.map(lambda p, q: np.max(np.abs(np.asarray(p) - np.asarray(q))), one, other)
    return float(np.max(jax.tree.leaves(differences)))


@pytest.mark.usefixtures("x64")
class TestThreeWays:
    def test_they_agree_on_a_thousand_random_networks(self) -> None:
        generator = np.random.default_rng(2)
        architectures = [_random_architecture(generator) for _ in range(6)]
        assert len({architecture.sizes for architecture in architectures}) == 6
        assert np.max([_largest_difference(one, 170, generator) for one in architectures]) < LIMIT

    @pytest.mark.slow
    def test_and_on_a_thousand_of_two_hundred_sizes(self) -> None:
        generator = np.random.default_rng(3)
        architectures = [_random_architecture(generator) for _ in range(200)]
        assert np.max([_largest_difference(one, 5, generator) for one in architectures]) < LIMIT
