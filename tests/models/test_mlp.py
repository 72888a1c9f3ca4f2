"""The MLP: parameters, report A's weights, activations and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import config as config_lib
from jaxnets import models, reported
from jaxnets.errors import ConfigError
from jaxnets.models.base import ACTIVATIONS
from jaxnets.models.mlp import MLP

PRINTED = reported.document("mlp_tanh")


def test_parameters_are_named_by_layer() -> None:
    params = models.initialize(MLP(), jax.random.key(0), (1, 3))["params"]
    shapes = jax.tree.map(lambda leaf: leaf.shape, params)
    assert shapes == {
        "layer1": {"kernel": (3, 4), "bias": (4,)},
        "layer2": {"kernel": (4, 4), "bias": (4,)},
        "layer3": {"kernel": (4, 1), "bias": (1,)},
    }
    assert models.count_parameters(params) == 41


def test_torch_initialization_has_the_range_of_report_b() -> None:
    sizes, activations = (3, 40, 40, 40), ("relu", "relu", "tanh")
    model = MLP(layer_sizes=sizes, activations=activations)
    params = models.initialize(model, jax.random.key(0), (1, 3))["params"]
    for number, fan_in in enumerate(sizes[:-1], 1):
        for values in params[f"layer{number}"].values():
            assert 0.9 * fan_in**-0.5 < float(jnp.abs(values).max()) <= fan_in**-0.5


@pytest.mark.usefixtures("x64")
def test_published_weights_give_the_published_predictions() -> None:
    model = MLP(init_scheme="published", dtype=jnp.float64)
    variables = models.initialize(model, jax.random.key(0), (1, 3))
    assert variables["params"]["layer1"]["kernel"][2, 0] == PRINTED["weights_full"]["W1"][0][2]
    predictions = model.apply(variables, np.array(PRINTED["data"]["X"]))
    expected = PRINTED["micrograd"]["predictions"]
    np.testing.assert_allclose(predictions[:, 0], expected, rtol=0, atol=1e-12)


def test_activations_are_set_per_layer() -> None:
    model = MLP(layer_sizes=(2, 2, 2), activations=("relu", "identity"))
    layer = {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}
    variables = {"params": {"layer1": layer, "layer2": layer}}
    x = jnp.array([[-1.0, 2.0]])
    np.testing.assert_array_equal(model.apply(variables, x), [[0.0, 2.0]])
    other = MLP(layer_sizes=(2, 2, 2), activations=("identity", "leaky_relu"))
    np.testing.assert_allclose(other.apply(variables, x), [[-0.01, 2.0]], rtol=1e-6)


def test_activations_of_the_config_exist() -> None:
    for field in ("model.activations", "model.activation"):
        assert set(config_lib.FIELDS[field].choices) <= set(ACTIVATIONS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activations": ("tanh", "tanh")}, "make 3 layers, but there are 2 activations"),
        ({"layer_sizes": (3,), "activations": ()}, "one layer at least"),
        (
            {"layer_sizes": (3, 5, 4, 1), "init_scheme": "published"},
            r"report A's \(3, 4, 4, 1\), not layer_sizes=\(3, 5, 4, 1\)",
        ),
    ],
)
def test_invalid_layers_raise(fields: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MLP(**fields)


def test_wrong_input_size_raises() -> None:
    with pytest.raises(ConfigError, match=r"inputs are \[1, 2\], but .* takes 3 numbers"):
        MLP().init(jax.random.key(0), jnp.zeros((1, 2)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "lenet5", "init": "published"}, "no report prints the weights of 'lenet5'"),
        ({"name": "mlp", "dropout": 0.5}, "MLP has no dropout"),
    ],
)
def test_unsupported_fields_raise(fields: dict, message: str) -> None:
    config = config_lib.default_config().model
    config.update(fields)
    with pytest.raises(ConfigError, match=message):
        models.create(config)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"), [(2, 1, "begins with 3.*begin with 2"), (3, 4, "end with 4")]
)
def test_layer_sizes_that_do_not_match_the_data_raise(inputs: int, outputs: int, message: str) -> None:
    config = config_lib.default_config().model
    models.check_lengths(config, 3, 1)
    with pytest.raises(ConfigError, match=message):
        models.check_lengths(config, inputs, outputs)


@pytest.mark.parametrize(("name", "kind"), [("mlp", "image"), ("resnet50", "vector")])
def test_wrong_kind_of_example_raises(name: str, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"does not accept examples of kind '{kind}'"):
        models.check_kind(name, kind)


@pytest.mark.oracle
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_gradients_match_pytorch(name: str) -> None:
    import torch

    kinds = {
        "tanh": torch.nn.Tanh,
        "relu": torch.nn.ReLU,
        "relu6": torch.nn.ReLU6,
        "leaky_relu": torch.nn.LeakyReLU,
        "sigmoid": torch.nn.Sigmoid,
        "silu": torch.nn.SiLU,
        "gelu": torch.nn.GELU,
        "identity": torch.nn.Identity,
    }
    model = MLP(layer_sizes=(3, 5, 2), activations=(name, name), dtype=jnp.float64)
    params = models.initialize(model, jax.random.key(0), (1, 3))["params"]
    params["layer1"]["bias"] = params["layer1"]["bias"].at[0].set(0.0)
    x = np.random.default_rng(0).normal(size=(6, 3))
    x[0] = 0  # the first neuron of the first layer is at the kink
    gradient = jax.grad(lambda p: jnp.sum(model.apply({"params": p}, x) ** 2))(params)
    layers = [torch.nn.Linear(3, 5), kinds[name](), torch.nn.Linear(5, 2), kinds[name]()]
    theirs = torch.nn.Sequential(*layers).double()
    for number in (1, 2):
        layer = params[f"layer{number}"]
        weight, bias = (np.array(layer[leaf]) for leaf in ("kernel", "bias"))
        theirs[2 * number - 2].load_state_dict({"weight": torch.tensor(weight.T), "bias": torch.tensor(bias)})
    outputs = theirs(torch.tensor(x))
    (outputs**2).sum().backward()
    ours = model.apply({"params": params}, x)
    np.testing.assert_allclose(ours, outputs.detach(), rtol=1e-12, atol=1e-14)
    for number in (1, 2):
        layer = theirs[2 * number - 2]
        close = {"rtol": 1e-11, "atol": 1e-13}
        np.testing.assert_allclose(gradient[f"layer{number}"]["kernel"].T, layer.weight.grad, **close)
        np.testing.assert_allclose(gradient[f"layer{number}"]["bias"], layer.bias.grad, **close)
