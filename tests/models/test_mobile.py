"""MobileNetV2 and the EfficientNets: stages, stochastic depth and initial weights."""

from typing import Any

import jax
import numpy as np
import pytest

from benchmarks.oracles import load
from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.models import efficientnet, mobilenet
from jaxnets.models.base import Entry


@pytest.mark.parametrize(
    ("entry", "channels", "blocks"),
    [
        (efficientnet.LITE0, (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
        (efficientnet.LITE1, (16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
        (efficientnet.LITE2, (16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
    ],
)
def test_stages_are_scaled(entry: Entry, channels: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    stages = efficientnet.scaled_stages(entry.settings["width"], entry.settings["depth"])
    assert tuple(stage.channels for stage in stages) == channels
    assert tuple(stage.blocks for stage in stages) == blocks
    *_, (name, _, stride) = mobilenet.names_of_blocks(stages)
    assert (name, stride) == ("stage7_block1", 1)


def _model(name: str, **fields: Any) -> tuple[Any, Any]:
    config = config_lib.default_config().model
    config.update({"name": name, "num_classes": 3, **fields})
    return config, models.create(config)


def test_stochastic_depth_leaves_out_blocks_in_training_only() -> None:
    """With a rate near 1 a block returns its input, or much more."""
    layers = efficientnet.EfficientNet(3).layers()
    block = mobilenet.InvertedResidual(layers, 8, 6, stochastic_depth=0.9)
    x = np.random.default_rng(0).normal(size=(64, 5, 5, 8)).astype(np.float32)
    variables = jax.jit(lambda x: block.init(jax.random.key(0), x, train=False))(x)
    without = block.clone(stochastic_depth=0.0)

    def apply(module: Any, *, train: bool) -> np.ndarray:
        rngs, mutable = {"dropout": jax.random.key(1)}, ["batch_stats"]
        program = jax.jit(lambda x: module.apply(variables, x, train=train, mutable=mutable, rngs=rngs)[0])
        return np.asarray(program(x))

    added, all_added = (apply(module, train=True) - x for module in (block, without))
    left_out = ~added.any(axis=(1, 2, 3))
    assert 45 < left_out.sum() < 64
    np.testing.assert_allclose(added[~left_out], all_added[~left_out] / 0.1, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(*(apply(module, train=False) for module in (block, without)))


def test_the_rate_of_stochastic_depth_grows_with_the_depth() -> None:
    _, model = _model("efficientnet_b0", stochastic_depth=0.32)
    rates = [block.stochastic_depth for block in model.bind({}).blocks]
    np.testing.assert_allclose(rates, np.arange(16) * 0.02)


@pytest.mark.oracle
def test_lite_begins_with_the_variances_of_timm() -> None:
    config, model = _model("efficientnet_lite0", num_classes=1000)
    config_of_training = config_lib.default_config()
    config_of_training.model = config
    theirs = load("networks").make_network(config_of_training)
    params = models.initialize(model, jax.random.key(0), (1, 32, 32, 3))["params"]
    pairs = {
        "stem": (params["stem"]["conv"], theirs.conv_stem),
        "expand": (params["stage6_block2"]["expand"]["conv"], theirs.blocks[5][1].conv_pw),
        "depthwise": (params["stage6_block2"]["depthwise"]["conv"], theirs.blocks[5][1].conv_dw),
        "project": (params["stage6_block2"]["project"]["conv"], theirs.blocks[5][1].conv_pwl),
        "last": (params["last"]["conv"], theirs.conv_head),
        "classifier": (params["classifier"], theirs.classifier),
    }
    for name, (ours, layer) in pairs.items():
        ratio = float(np.std(ours["kernel"])) / float(layer.weight.detach().std())
        assert ratio == pytest.approx(1, rel=0.1), name
