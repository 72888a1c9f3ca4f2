"""Activations and derivatives, compared with finite differences and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.errors import ConfigError
from studies.by_hand.activations import ACTIVATIONS, activation

AWAY_FROM_KINKS = np.array([-750.0, -30.0, -2.0, -0.3, 0.4, 1.7, 30.0, 750.0])
NOT_A_NUMBER = np.array([np.inf, -np.inf, np.nan])
AT_ZERO = {
    "tanh": (0.0, 1.0),
    "relu": (0.0, 0.0),
    "leaky_relu": (0.0, 0.01),
    "sigmoid": (0.5, 0.25),
    "identity": (0.0, 1.0),
    "step": (1.0, 0.0),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
class TestActivation:
    @pytest.mark.usefixtures("x64")
    def test_derivative_matches_finite_differences(self, name: str) -> None:
        z, function = jnp.asarray(AWAY_FROM_KINKS), ACTIVATIONS[name]
        h = 1e-6
        slope = (function.value(z + h) - function.value(z - h)) / (2 * h)
        derivative = function.derivative(z)
        np.testing.assert_allclose(derivative, slope, rtol=1e-4, atol=1e-9)
        assert derivative.shape == z.shape

    def test_value_and_derivative_at_zero(self, name: str) -> None:
        zero = jnp.zeros(())
        found = (float(ACTIVATIONS[name].value(zero)), float(ACTIVATIONS[name].derivative(zero)))
        assert found == pytest.approx(AT_ZERO[name])

    def test_nan_propagates(self, name: str) -> None:
        value = float(ACTIVATIONS[name].value(jnp.asarray(jnp.nan)))
        assert np.isnan(value) == (name != "step")  # PyTorch's heaviside is 0 there

    @pytest.mark.usefixtures("x64")
    def test_dtype_is_preserved(self, name: str) -> None:
        z = jnp.ones((2, 3), jnp.float32)
        assert ACTIVATIONS[name].value(z).dtype == jnp.float32
        assert ACTIVATIONS[name].derivative(z).dtype == jnp.float32

    @pytest.mark.oracle
    @pytest.mark.usefixtures("x64")
    def test_matches_pytorch(self, name: str) -> None:
        torch = pytest.importorskip("torch")
        one = torch.ones((), dtype=torch.float64)
        functions = {
            "tanh": torch.tanh,
            "relu": torch.relu,
            "leaky_relu": torch.nn.functional.leaky_relu,
            "sigmoid": torch.sigmoid,
            "identity": torch.clone,
            "step": lambda z: torch.where(torch.tensor(True), torch.heaviside(z.detach(), one), z),
        }
        values = np.concatenate([AWAY_FROM_KINKS, [0.0], NOT_A_NUMBER])
        z = torch.tensor(values, requires_grad=True)
        result = functions[name](z)
        result.sum().backward()
        ours = ACTIVATIONS[name]
        np.testing.assert_allclose(ours.value(jnp.asarray(values)), result.detach(), rtol=1e-14, atol=1e-300)
        np.testing.assert_allclose(ours.derivative(jnp.asarray(values)), z.grad, rtol=1e-12, atol=1e-15)


def test_unknown_activation_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="unknown activation 'tan'; activations: tanh, relu"):
        activation("tan")


def test_activations_can_be_jitted() -> None:
    for function in ACTIVATIONS.values():
        z = jnp.linspace(-1, 1, 5)
        np.testing.assert_allclose(jax.jit(function.value)(z), function.value(z), rtol=1e-6)
