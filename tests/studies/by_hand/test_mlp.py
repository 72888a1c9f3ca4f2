"""The MLP's gradient step: finite differences, losses, shapes and errors."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxnets.errors import ConfigError
from studies.by_hand import mlp, scalar_network

SHAPES = ((4, 3), (4, 4), (1, 4))
STEP: dict[str, Any] = {
    "activations": ("tanh", "sigmoid", "identity"),
    "loss": "sum_squared_error",
    "learning_rate": 0.1,
}
jitted = jax.jit(mlp.gradient_step, static_argnames=("activations", "loss"))


def _network(seed: int = 0, samples: int = 5) -> tuple[mlp.Parameters, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    parameters = tuple(
        mlp.Layer(generator.normal(size=shape), generator.normal(size=shape[0])) for shape in SHAPES
    )
    return parameters, generator.normal(size=(samples, 3)), generator.normal(size=(samples, 1))


@pytest.mark.usefixtures("x64")
class TestGradientStep:
    @pytest.mark.parametrize("loss", mlp.SQUARED_ERRORS)
    def test_gradients_match_finite_differences(self, loss: str) -> None:
        parameters, x, y = _network()
        step = {**STEP, "loss": loss}
        direction = _network(seed=1)[0]
        h = 1e-6

        def loss_at(distance: float) -> Any:
            shifted = jax.tree.map(lambda p, d: p + distance * d, parameters, direction)
            return jitted(shifted, x, y, **step).loss

        gradients = jitted(parameters, x, y, **step).gradients
        products = jax.tree.map(lambda g, d: np.sum(g * d), gradients, direction)
        slope = float(sum(jax.tree.leaves(products)))
        assert (loss_at(h) - loss_at(-h)) / (2 * h) == pytest.approx(slope, rel=1e-7)

    def test_losses_differ_by_constant_factors(self) -> None:
        parameters, x, y = _network(samples=5)
        total, half, mean = (
            jitted(parameters, x, y, **{**STEP, "loss": f"{name}_squared_error"})
            for name in ("sum", "half", "mean")
        )
        assert total.loss == pytest.approx(2 * half.loss)
        assert total.loss == pytest.approx(5 * mean.loss)
        np.testing.assert_allclose(total.delta[0], 5 * mean.delta[0], rtol=1e-14)

    def test_jit_gives_the_same_result(self) -> None:
        parameters, x, _ = _network()
        layer, step = parameters[:1], {**STEP, "activations": ("tanh",)}
        arguments = layer, x, np.ones((len(x), 4))
        plain, compiled = (function(*arguments, **step) for function in (mlp.gradient_step, jitted))
        for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(compiled), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-14)

    def test_float32_is_preserved(self) -> None:
        single = jax.tree.map(np.float32, _network())
        trace = jitted(*single, **STEP)
        assert {leaf.dtype for leaf in jax.tree.leaves(trace)} == {np.dtype("float32")}
        exact = jitted(*_network(), **STEP)
        np.testing.assert_allclose(trace.updated[0].weight, exact.updated[0].weight, atol=1e-5)

    def test_trace_shapes_are_neurons_by_samples(self) -> None:
        trace = jitted(*_network(), **STEP)
        for table in (trace.z, trace.a, trace.delta):
            assert [values.shape for values in table] == [(4, 5), (4, 5), (1, 5)]
        for layers in (trace.gradients, trace.updated):
            assert [layer.weight.shape for layer in layers] == list(SHAPES)
            assert [layer.bias.shape for layer in layers] == [(4,), (4,), (1,)]


def _reshaped(name: str, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    parameters, x, y = _network(samples=4)
    values = np.zeros(shape)
    if name == "X":
        return parameters, values, y
    if name == "y":
        return parameters, x, values
    layers = [list(layer) for layer in parameters]
    layers[int(name[1]) - 1]["Wb".index(name[0])] = values
    return [tuple(layer) for layer in layers], x, y


@pytest.mark.parametrize("gradient_step", [mlp.gradient_step, scalar_network.gradient_step])
class TestErrors:
    @pytest.mark.parametrize(
        ("name", "shape", "message"),
        [
            ("b1", (4, 1), r"b1 has shape (4, 1), but W1 (4, 3) needs (4,): a column"),
            ("b3", (1, 1), r"b3 has shape (1, 1), but W3 (1, 4) needs (1,)"),
            ("b2", (3,), r"b2 has shape (3,), but W2 (4, 4) needs (4,)"),
            ("W2", (4, 5), r"W2 has shape (4, 5) and takes 5 inputs, but W1 has shape (4, 3)"),
            ("W1", (4,), r"W1 has shape (4,); weights are (neurons, inputs)"),
            ("W3", (0, 4), r"W3 has shape (0, 4)"),
            ("X", (4, 2), r"X has shape (4, 2), but W1 (4, 3) needs (samples, 3)"),
            ("X", (3,), r"X has shape (3,)"),
            ("X", (0, 3), r"X has shape (0, 3)"),
            ("y", (3, 1), r"y has shape (3, 1), but 4 samples and an output layer of 1 need (4, 1)"),
            ("y", (4,), r"y has shape (4,), but 4 samples"),
        ],
    )
    def test_mismatched_shapes_raise(
        self, gradient_step: Any, name: str, shape: tuple[int, ...], message: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            gradient_step(*_reshaped(name, shape), **STEP)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_unknown_names_raise(self, gradient_step: Any) -> None:
        with pytest.raises(ConfigError, match="unknown activation 'tan'; activations: tanh"):
            gradient_step(*_network(), **{**STEP, "activations": ("tan", "tanh", "tanh")})
        with pytest.raises(ConfigError, match="unknown loss 'mse'; losses: sum_squared_error"):
            gradient_step(*_network(), **{**STEP, "loss": "mse"})

    def test_wrong_number_of_activations_raises(self, gradient_step: Any) -> None:
        with pytest.raises(ConfigError, match="3 layers need as many activations"):
            gradient_step(*_network(), **{**STEP, "activations": ("tanh",)})
        with pytest.raises(ConfigError, match="at least one layer"):
            gradient_step([], *_network()[1:], **{**STEP, "activations": ()})

    def test_ragged_weights_raise(self, gradient_step: Any) -> None:
        parameters, x, y = _network()
        ragged = [([[1.0, 2.0, 3.0], [4.0]], [0.0, 0.0]), *parameters[1:]]
        with pytest.raises(ConfigError, match="W1 is ragged"):
            gradient_step(ragged, x, y, **STEP)
