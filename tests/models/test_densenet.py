"""DenseNet-121: parameter counts, smallest input, dropout and initialization."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import models, ops
from jaxnets.models.densenet import DenseLayer, DenseNet, kaiming_normal_fan_in


@pytest.fixture(scope="module")
def smallest() -> tuple[Any, dict[str, Any]]:
    """Returns the shapes of the features of the smallest images and of the variables."""
    init = functools.partial(DenseNet(3).init_with_output, jax.random.key(0), train=False, method="features")
    return jax.eval_shape(init, jax.ShapeDtypeStruct((2, 29, 29, 3), jnp.float32))


@pytest.mark.parametrize(("classes", "parameters"), [(3, 6_956_931), (1000, 7_978_856)])
def test_parameter_counts_match_torchvision(smallest, classes: int, parameters: int) -> None:
    features, variables = smallest
    init = functools.partial(DenseNet(classes).init, jax.random.key(0), train=False, method="head")
    head = jax.eval_shape(init, features)
    found = models.count_parameters([variables["params"], head["params"]])
    assert found == parameters
    assert models.count_parameters(variables["batch_stats"]) == 83_648


def test_smallest_image_gives_one_pixel(smallest) -> None:
    assert smallest[0].shape == (2, 1, 1, 1024)
    model = DenseNet(3, block_sizes=(1, 1, 1, 1), growth_rate=1)
    init = functools.partial(model.init_with_output, jax.random.key(0), method="features")
    images = jax.ShapeDtypeStruct((2, 28, 28, 3), jnp.float32)
    features, _ = jax.eval_shape(functools.partial(init, train=False), images)
    assert features.shape[1:3] == (0, 0)


def test_call_is_head_of_features_and_every_parameter_has_a_gradient() -> None:
    model = DenseNet(3, block_sizes=(1, 1), growth_rate=4)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(4, 16, 16, 3)).astype(np.float32)
    shapes = jax.eval_shape(functools.partial(model.init, jax.random.key(0)), x)
    variables = jax.tree.map(lambda leaf: generator.uniform(0.5, 1, leaf.shape), shapes)

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def compute(variables, x):
        features = model.apply(variables, x, train=False, method="features")
        head = model.apply(variables, features, train=False, method="head")

        def loss(params):
            given = {**variables, "params": params}
            logits, _ = model.apply(given, x, train=True, mutable=["batch_stats"])
            return jax.nn.log_softmax(logits)[:, 0].sum()

        return head, model.apply(variables, x, train=False), jax.grad(loss)(variables["params"])

    head, logits, gradient = compute(variables, x)
    np.testing.assert_allclose(head, logits, rtol=1e-6)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_initialization_matches_torchvision() -> None:
    model = DenseNet(3).bind({})
    assert model.conv0.initialization.kernel is kaiming_normal_fan_in
    for block in (*model.dense_blocks, *model.transitions):
        assert block.layers.conv.keywords["initialization"].kernel is kaiming_normal_fan_in
    assert model.classifier.initialization.bias is ops.initializers.zero_bias
    kernel = np.asarray(kaiming_normal_fan_in(jax.random.key(0), (3, 3, 16, 32)))
    np.testing.assert_allclose(kernel.std(), (2 / (9 * 16)) ** 0.5, rtol=0.05)
    assert np.abs(kernel).max() > 2.5 * (2 / (9 * 16)) ** 0.5  # not truncated at 2 deviations


def test_dropout_applies_to_new_features_in_training_only() -> None:
    layer = DenseLayer(8, 0.5, DenseNet(3).layers())

    @jax.jit
    def both(x):
        variables = layer.init(jax.random.key(0), x, train=False)
        rngs = {"dropout": jax.random.key(2)}
        trained, _ = layer.apply(variables, x, train=True, rngs=rngs, mutable=["batch_stats"])
        return trained, layer.apply(variables, x, train=False)

    trained, evaluated = both(np.random.default_rng(0).normal(size=(2, 8, 8, 4)))
    assert np.mean(trained == 0) == pytest.approx(0.5, abs=0.1)
    assert np.mean(evaluated == 0) < 0.01
