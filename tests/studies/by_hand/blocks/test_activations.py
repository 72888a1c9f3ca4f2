"""Activations compared with JAX's and their derivatives with jax.grad, at kinks too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from studies.by_hand.activations import activation

JAX_ACTIVATIONS = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "step": lambda z: jnp.heaviside(z, 1.0),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", JAX_ACTIVATIONS)
def test_value_and_derivative(name: str) -> None:
    z = jnp.array([-20.0, -1.5, -1e-9, 0.0, 1e-9, 0.3, 20.0])
    ours, theirs = activation(name), JAX_ACTIVATIONS[name]
    np.testing.assert_allclose(ours.value(z), theirs(z), rtol=1e-12)
    points = z[z != 0] if name == "leaky_relu" else z  # jax.nn's slope at 0 is 1, PyTorch's 0.01
    slope = jax.vmap(jax.grad(theirs))(points)
    np.testing.assert_allclose(ours.derivative(points), slope, rtol=1e-12, atol=1e-15)
