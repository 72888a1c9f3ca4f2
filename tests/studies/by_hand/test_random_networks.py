"""The explicit backward pass, the scalar engine and jax.grad agree on networks of random sizes."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import numpy as np
import pytest

from jaxnets.training.loss import SQUARED_ERRORS
from studies.by_hand import mlp, scalar_network
from studies.mlp_proof.check import max_difference
from studies.mlp_proof.implementations import training_loss

ACTIVATIONS = ("tanh", "relu", "leaky_relu", "sigmoid", "identity")
MAX_SIZE, MAX_LAYERS = 5, 3
LIMIT = 1e-12


@dataclasses.dataclass(frozen=True)
class _Architecture:
    """Layer sizes, batch size, activations and loss."""

    sizes: tuple[int, ...]
    samples: int
    activations: tuple[str, ...]
    loss: str

    @property
    def step(self) -> dict[str, Any]:
        return {"activations": self.activations, "loss": self.loss, "learning_rate": 0.1}


def _random_architecture(generator: np.random.Generator) -> _Architecture:
    layers = generator.integers(1, MAX_LAYERS + 1)
    return _Architecture(
        sizes=tuple(generator.integers(1, MAX_SIZE + 1, layers + 1).tolist()),
        samples=int(generator.integers(1, MAX_SIZE + 1)),
        activations=tuple(generator.choice(ACTIVATIONS, layers).tolist()),
        loss=str(generator.choice(list(SQUARED_ERRORS))),
    )


def _largest_difference(architecture: _Architecture, draws: int, generator: np.random.Generator) -> float:
    """Returns the largest difference of losses, gradients and all other values over random parameters."""

    def draw(*shape: int) -> np.ndarray:
        return generator.uniform(-1, 1, (draws, *shape))

    sizes = architecture.sizes
    parameters = tuple(
        mlp.Layer(draw(neurons, inputs), draw(neurons)) for inputs, neurons in itertools.pairwise(sizes)
    )
    x, y = draw(architecture.samples, sizes[0]), draw(architecture.samples, sizes[-1])

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    @jax.vmap
    def both(parameters: mlp.Parameters, x: jax.Array, y: jax.Array) -> tuple[mlp.Trace, Any]:
        by_hand = mlp.gradient_step(parameters, x, y, **architecture.step)
        loss = training_loss(sizes, architecture.activations, architecture.loss)
        return by_hand, jax.value_and_grad(loss)(parameters, x, y)

    by_hand, by_grad = jax.device_get(both(parameters, x, y))
    differences = [max_difference((by_hand.loss, by_hand.gradients), by_grad)]
    for number in range(draws):
        one = jax.tree.map(lambda values: values[number], (parameters, x, y, by_hand))  # noqa: B023
        engine = scalar_network.gradient_step(*one[:3], **architecture.step)
        differences.append(max_difference(one[3], engine))
    return float(np.max(differences))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("sizes", "draws", "seed"), [(6, 170, 2), pytest.param(200, 5, 3, marks=pytest.mark.slow)]
)
def test_implementations_agree_on_a_thousand_random_networks(sizes: int, draws: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    architectures = [_random_architecture(generator) for _ in range(sizes)]
    assert len({architecture.sizes for architecture in architectures}) >= min(sizes, 6)
    assert np.max([_largest_difference(each, draws, generator) for each in architectures]) < LIMIT
