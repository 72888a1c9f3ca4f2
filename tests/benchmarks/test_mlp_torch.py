"""PyTorch's step of an MLP matches the step by hand for every activation and loss."""

import itertools

import jax
import numpy as np
import pytest

from benchmarks import mlp_torch
from studies.by_hand import mlp

SIZES = (3, 4, 5, 2, 3, 2)
ACTIVATIONS = ("tanh", "relu", "leaky_relu", "sigmoid", "identity")

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("x64")]


@pytest.mark.parametrize("loss", mlp.SQUARED_ERRORS)
def test_every_intermediate_value_matches(loss: str) -> None:
    pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    parameters = [
        (generator.normal(size=(neurons, inputs)), generator.normal(size=neurons))
        for inputs, neurons in itertools.pairwise(SIZES)
    ]
    x, y = generator.normal(size=(6, SIZES[0])), generator.normal(size=(6, SIZES[-1]))
    step = {"activations": ACTIVATIONS, "loss": loss, "learning_rate": 0.1}
    ours = jax.jit(lambda p: mlp.gradient_step(p, x, y, **step))(parameters)
    theirs = mlp_torch.gradient_step(parameters, x, y, **step)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)
