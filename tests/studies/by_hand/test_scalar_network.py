"""Neuron, Layer and MLP of the scalar engine."""

import numpy as np
import pytest

from jaxnets import reported
from jaxnets.errors import ConfigError
from studies.by_hand import scalar_network
from studies.by_hand.scalar import Value
from studies.by_hand.scalar_network import MLP, Layer, Neuron


def _weights() -> list[tuple[list, list]]:
    printed = reported.document("mlp_tanh")["weights_full"]
    return [(printed[f"W{number}"], printed[f"b{number}"]) for number in (1, 2, 3)]


def test_parameter_order_matches_the_report() -> None:
    network = MLP([([[1, 2], [4, 5]], [3, 6]), ([[7, 8]], [9])], ("tanh", "identity"))
    assert [value.data for value in network.parameters()] == list(range(1, 10))


def test_results_match_the_engine_of_the_report() -> None:
    printed = reported.document("mlp_tanh")
    inputs, labels = printed["data"]["X"], np.array(printed["data"]["y"])[:, None]
    network = MLP(_weights(), ("tanh",) * 3)
    predictions = [network(row)[0].data for row in inputs]
    assert predictions == pytest.approx(printed["micrograd"]["predictions"], abs=1e-15)
    trace = scalar_network.gradient_step(
        _weights(), inputs, labels, activations=("tanh",) * 3, loss="sum_squared_error", learning_rate=0.1
    )
    updated = np.concatenate([np.column_stack([w, b]).ravel() for w, b in trace.updated])
    engine = [entry["value"] for entry in printed["micrograd"]["updated_parameters"]]
    assert len(engine) == 41
    np.testing.assert_allclose(updated, engine, rtol=0, atol=1e-12)


def test_neuron_and_layer() -> None:
    neuron = Neuron([0.5, -1.0], 0.25, "relu")
    assert neuron([1.0, 2.0]).data == 0.0
    assert neuron.pre_activation([1.0, 2.0]).data == -1.25
    layer = Layer([[1.0, 0.0], [0.0, 1.0]], [0.0, 1.0], "identity")
    assert [value.data for value in layer([Value(3.0), Value(4.0)])] == [3.0, 5.0]


def test_wrong_input_size_raises() -> None:
    with pytest.raises(ConfigError, match=r"X has shape \(4, 2\)"):
        scalar_network.gradient_step(
            _weights(),
            np.ones((4, 2)),
            np.ones((4, 1)),
            activations=("tanh",) * 3,
            loss="sum_squared_error",
            learning_rate=0.1,
        )


def test_wrong_number_of_neuron_inputs_raises() -> None:
    with pytest.raises(ConfigError, match="2 inputs, but the neuron has 3 weights"):
        MLP(_weights(), ("tanh",) * 3)([1.0, 2.0])


def test_gradient_step_does_not_modify_the_weights() -> None:
    weights = [(np.ones((1, 2)), np.ones(1))]
    step = {"activations": ("tanh",), "loss": "sum_squared_error", "learning_rate": 0.1}
    traces = [scalar_network.gradient_step(weights, [[1.0, 2.0]], [[0.5]], **step) for _ in "ab"]
    assert (weights[0][0] == 1).all()
    np.testing.assert_array_equal(traces[0].updated[0].weight, traces[1].updated[0].weight)
