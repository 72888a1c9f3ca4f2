"""ConvNeXt: the blocks that stochastic depth leaves out, and what a new network computes."""

import jax
import numpy as np

from jaxnets import models
from jaxnets.models.convnext import Block, ConvNeXt

SMALL = {"stage_sizes": (1, 2, 1, 1), "widths": (4, 6, 8, 10)}


def test_the_rate_of_stochastic_depth_grows_with_the_depth() -> None:
    model = ConvNeXt(3, stochastic_depth=0.4, **SMALL)
    rates = [layer.stochastic_depth for layer in model.bind({}).body if isinstance(layer, Block)]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.4])


def test_blocks_of_a_new_network_are_nearly_the_identity() -> None:
    block = Block(ConvNeXt(3).layers())
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 8)).astype(np.float32)
    variables = block.init(jax.random.key(0), x, train=False)
    y = np.asarray(block.apply(variables, x, train=False))
    assert 0 < np.abs(y - x).max() < 1e-4
    scaled = {**variables["params"], "layer_scale": np.ones(8, np.float32)}
    assert np.abs(block.apply({"params": scaled}, x, train=False) - x).max() > 1e-2


def test_logits_in_bfloat16_are_near_those_in_float32() -> None:
    x = np.random.default_rng(0).normal(size=(2, 40, 40, 3)).astype(np.float32)
    model = ConvNeXt(3, **SMALL)
    variables = models.initialize(model, jax.random.key(0), x.shape)
    exact = np.asarray(model.apply(variables, x))
    rounded = np.asarray(model.clone(compute_dtype=np.dtype("bfloat16")).apply(variables, x))
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, exact, atol=0.03 * np.abs(exact).max())
