"""VGG-16: feature maps, dropout and initialization."""

import functools

import jax
import jax.numpy as jnp
import pytest

from jaxnets.models import vgg
from jaxnets.models.vgg import VGG
from jaxnets.ops import initializers


@pytest.mark.parametrize(("size", "side"), [(32, 1), (63, 1), (224, 7)])
def test_five_poolings_halve_the_image(size: int, side: int) -> None:
    init = functools.partial(VGG(3).init_with_output, jax.random.key(0), train=False, method="features")
    features, _ = jax.eval_shape(init, jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32))
    assert features.shape == (2, side, side, 512)


def test_dropout_follows_both_hidden_layers_in_training_only() -> None:
    model, features = VGG(3, dropout=0.5), jnp.zeros((1, 1, 1, 512))
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = jax.eval_shape(functools.partial(model.init, train=False, method="head"), rngs, features)

    def masks(train: bool) -> int:
        apply = functools.partial(model.apply, train=train, method="head", rngs=rngs)
        return str(jax.make_jaxpr(apply)(variables, features)).count("select_n")

    assert (masks(train=True), masks(train=False)) == (2, 0)


def test_initialization_matches_torchvision() -> None:
    model = VGG(3, batch_norm=True).bind({})
    assert len(model.convs) == len(model.norms) == 13
    for conv in model.convs:
        assert conv.initialization == initializers.KAIMING
        assert conv.use_bias
    for dense in (model.dense1, model.dense2, model.classifier):
        assert dense.initialization == vgg.DENSE_INIT
    assert not any(VGG(3).bind({}).norms)
