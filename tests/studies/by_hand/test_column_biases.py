"""Biases (n, 1) broadcast as in PyTorch."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxnets.errors import ConfigError
from studies.by_hand import column_biases, mlp

STEP: dict[str, Any] = {
    "activations": ("tanh", "leaky_relu"),
    "loss": "mean_squared_error",
    "learning_rate": 0.1,
}
jitted = jax.jit(column_biases.gradient_step, static_argnames=("activations", "loss"))


def _network(hidden: int, samples: int) -> tuple[Any, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    parameters = [
        (generator.normal(size=(hidden, 3)), generator.normal(size=(hidden, 1))),
        (generator.normal(size=(1, hidden)), generator.normal(size=(1, 1))),
    ]
    return parameters, generator.normal(size=(samples, 3)), generator.normal(size=(samples, 1))


@pytest.mark.usefixtures("x64")
class TestColumnBiases:
    def test_bias_is_added_to_its_sample(self) -> None:
        (first, second), x, y = _network(hidden=4, samples=4)
        trace = jitted([first, second], x, y, **STEP)
        np.testing.assert_allclose(trace.z[0], (x @ first[0].T + first[1]).T, rtol=1e-14)
        assert [layer.bias.shape for layer in trace.updated] == [(4, 1), (1, 1)]

    def test_single_neuron_is_unaffected(self) -> None:
        parameters, x, y = _network(hidden=1, samples=5)
        with_columns = jitted(parameters, x, y, **STEP)
        flat = [(w, b[:, 0]) for w, b in parameters]
        expected = jax.jit(lambda p: mlp.gradient_step(p, x, y, **STEP))(flat)
        for ours, theirs in zip(with_columns.updated, expected.updated, strict=True):
            np.testing.assert_allclose(ours.bias[:, 0], theirs.bias, rtol=1e-14)
            np.testing.assert_allclose(ours.weight, theirs.weight, rtol=1e-14)

    def test_mismatched_sample_count_raises(self) -> None:
        with pytest.raises(ConfigError, match=r"b1 has shape \(4, 1\), .* 5 samples by 4 neurons"):
            column_biases.gradient_step(*_network(hidden=4, samples=5), **STEP)

    def test_flat_biases_raise(self) -> None:
        parameters, x, y = _network(hidden=4, samples=4)
        with pytest.raises(ConfigError, match=r"b2 has shape \(1,\)"):
            column_biases.gradient_step([parameters[0], (parameters[1][0], np.ones(1))], x, y, **STEP)

    @pytest.mark.oracle
    @pytest.mark.parametrize(("hidden", "samples"), [(4, 4), (1, 5)])
    def test_matches_pytorch(self, hidden: int, samples: int) -> None:
        pytest.importorskip("torch")
        from benchmarks import mlp_torch

        network = _network(hidden, samples)
        ours = jitted(*network, **STEP)
        theirs = mlp_torch.gradient_step(*network, **STEP)
        assert ours.loss == pytest.approx(float(theirs.loss), abs=1e-14)
        for one, other in zip(ours.updated, theirs.updated, strict=True):
            np.testing.assert_allclose(one.weight, other.weight, rtol=0, atol=1e-14)
            np.testing.assert_allclose(one.bias, other.bias, rtol=0, atol=1e-14)

    @pytest.mark.oracle
    def test_pytorch_raises_for_mismatched_sample_count(self) -> None:
        pytest.importorskip("torch")
        from benchmarks import mlp_torch

        with pytest.raises(RuntimeError, match=r"expanded size|must match"):
            mlp_torch.gradient_step(*_network(hidden=4, samples=5), **STEP)
