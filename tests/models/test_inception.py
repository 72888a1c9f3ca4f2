"""Inception v1 and v3: variants, auxiliary heads and initialization; see also test_parity.py."""

import functools
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.oracles import load
from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import ConfigError
from jaxnets.interop.convert import to_torch
from jaxnets.models import inception_v1, inception_v3
from jaxnets.models.base import ModelOutput


def _model(name: str, **fields: Any) -> Any:
    config = config_lib.default_config().model
    config.name, config.num_classes = name, 3
    config.update(fields)
    return models.create(config)


@functools.cache
def _variables(model: Any, size: int) -> Any:
    x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(functools.partial(model.init, jax.random.key(0)), x)


def _outputs(model: Any, variables: Any, size: int, *, train: bool) -> Any:
    def apply(variables: Any, x: jax.Array) -> Any:
        rngs = {"dropout": jax.random.key(0)}
        return model.apply(variables, x, train=train, mutable=["batch_stats"], rngs=rngs)[0]

    return jax.eval_shape(apply, variables, jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32))


def test_paper_variant_adds_the_parameters_of_5x5_convolutions() -> None:
    ours, paper = (_variables(_model("inception_v1", variant=v), 32) for v in (None, "paper"))
    count = models.count_parameters
    assert count(paper["params"]) - count(ours["params"]) == 380_928
    assert paper["params"]["inception3a"]["conv5x5"]["conv"]["kernel"].shape == (5, 5, 16, 32)


@pytest.mark.parametrize(
    ("name", "variant", "message"),
    [
        ("inception_v1", "papre", "variants torchvision, paper .did you mean paper"),
        ("inception_v3", "paper", "Inception v3 has the variants torchvision, keras"),
    ],
)
def test_unknown_variant_raises(name: str, variant: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _model(name, variant=variant)


@pytest.mark.parametrize(
    ("name", "size", "heads"),
    [("inception_v1", 15, 2), pytest.param("inception_v3", 299, 1, marks=pytest.mark.slow)],
)
def test_auxiliary_heads_are_used_in_training_only(name: str, size: int, heads: int) -> None:
    model = _model(name)
    variables = _variables(model, size)
    outputs = _outputs(model, variables, size, train=True)
    assert isinstance(outputs, ModelOutput)
    assert [logits.shape for logits in outputs.auxiliary] == [(2, 3)] * heads
    assert _outputs(model, variables, size, train=False).shape == (2, 3)


def test_auxiliary_heads_can_be_disabled() -> None:
    model = _model("inception_v1", auxiliary_heads=False)
    variables = _variables(model, 15)
    assert not models.auxiliary_part(variables["params"])
    assert _outputs(model, variables, 15, train=True).shape == (2, 3)


def test_inception_v3_skips_its_auxiliary_head_for_small_images() -> None:
    model = _model("inception_v3")
    variables = _variables(model, 298)
    assert not models.auxiliary_part(variables["params"])
    assert _outputs(model, variables, 298, train=True).shape == (2, 3)
    config = config_lib.default_config().model
    config.name = "inception_v3"
    assert "needs 299 pixels, and images have 298" in str(models.skipped_aux_heads_note(config, 298))
    assert models.skipped_aux_heads_note(config, 299) is None
    config.auxiliary_heads = False
    assert models.skipped_aux_heads_note(config, 298) is None
    config.name, config.auxiliary_heads = "inception_v1", True
    assert models.skipped_aux_heads_note(config, 15) is None


def _initial(module: Any, shape: tuple[int, ...]) -> Any:
    init = jax.jit(lambda key: module.init(key, jnp.zeros(shape), train=False))
    return init(jax.random.key(0))["params"]


def test_initialization_matches_torchvision() -> None:
    network = inception_v3.InceptionV3(3)
    layers = network.layers(conv=inception_v3.INIT, dense=inception_v3.HEAD_INIT)
    v3 = inception_v3.AuxiliaryClassifier(3, layers)
    params = _initial(v3, (1, 17, 17, 16))
    assert float(params["conv1"]["conv"]["kernel"].std()) == pytest.approx(0.1, rel=0.02)
    assert float(params["classifier"]["kernel"].std()) == pytest.approx(0.001, rel=0.1)
    assert 0 < float(jnp.abs(params["classifier"]["bias"]).max()) <= 768**-0.5
    conv = network.layers(conv=inception_v1.INIT).conv_norm(64, 3)
    params = _initial(conv, (1, 8, 8, 32))
    assert float(params["conv"]["kernel"].std()) == pytest.approx(0.01, rel=0.02)
    for name in ("inception_v1", "inception_v3"):
        conv = _model(name, init="flax").bind({}).classifier
        kernel = conv.initialization.kernel(jax.random.key(0), (1, 1, 400, 50))
        assert float(np.std(kernel)) == pytest.approx(400**-0.5, rel=0.03)


@pytest.mark.oracle
@pytest.mark.usefixtures("x64")
def test_inception_v3_auxiliary_head_matches_torchvision() -> None:
    import torch

    networks, weights, drawn = load("networks"), load("weights"), load("drawn")
    load("torchvision_import").import_torchvision()
    theirs = importlib.import_module("torchvision.models.inception").InceptionAux(768, 3).double()
    network = inception_v3.InceptionV3(3, dtype=jnp.float64)
    layers = network.layers(conv=inception_v3.INIT, dense=inception_v3.INIT)
    ours = inception_v3.AuxiliaryClassifier(3, layers)
    generator = np.random.default_rng(0)
    x, probe = generator.normal(size=(2, 17, 17, 768)), generator.normal(size=(2, 3))
    variables = drawn.variables(ours, x.shape)

    def named(tree: Any) -> dict[str, np.ndarray]:
        """Returns the head's arrays with torchvision's names."""
        arrays = to_torch("inception_v3", {"auxiliary": jax.device_get(tree)})
        return {name.removeprefix("AuxLogits."): array for name, array in arrays.items()}

    @jax.jit
    def train(params: Any) -> Any:
        def total(params: Any) -> Any:
            logits, updates = ours.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(logits * probe), (logits, updates["batch_stats"])

        return jax.grad(total, has_aux=True)(params)

    networks.load_arrays(theirs, {**named(variables["params"]), **named(variables["batch_stats"])})
    logits = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    (logits * torch.from_numpy(probe)).sum().backward()
    gradient, (our_logits, statistics) = train(variables["params"])
    assert weights.relative_l2(our_logits, logits.detach().numpy()) < 1e-9
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    for name, array in named(statistics).items():
        assert weights.relative_l2(array, state[name]) < 1e-9, name
    expected = {name: tensor.grad.numpy() for name, tensor in theirs.named_parameters()}
    distances = weights.distances(named(gradient), expected)
    assert max(distances.values()) < 1e-8, distances
