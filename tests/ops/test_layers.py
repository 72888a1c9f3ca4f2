"""Padding "same", stochastic depth, squeeze-and-excitation and layer normalisation, without PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from jaxnets import ops
from jaxnets.ops.windows import same_padding


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (1, 2), (2, 2), (3, 1), (3, 2), (5, 2), (4, 3)])
def test_same_padding_is_that_of_xla(size: int, window: int, stride: int) -> None:
    expected = lax.padtype_to_pads((size, 7), (window, window), (stride, stride), "SAME")
    assert same_padding((size, 7), (window, window), (stride, stride)) == tuple(expected)


def test_stochastic_depth_leaves_out_whole_examples() -> None:
    x, rngs = np.ones((400, 2, 3, 1), np.float32), {"dropout": jax.random.key(1)}
    y = np.asarray(ops.StochasticDepth(0.25).apply({}, x, deterministic=False, rngs=rngs))
    share = (y[:, 0, 0, 0] > 0).mean()
    assert share == pytest.approx(0.75, abs=0.07)  # three standard deviations
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.75], rtol=1e-6)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1, :1], y.shape))


def test_squeeze_excitation_weighs_channels_by_their_means() -> None:
    layer = ops.SqueezeExcitation(_conv, 1)
    x = np.stack([np.full((2, 3, 3), 2.0), np.full((2, 3, 3), -1.0)], axis=-1).astype(np.float32)
    params = {
        "reduce": {"kernel": np.float32([3, 1]).reshape(1, 1, 2, 1), "bias": np.float32([-4])},
        "expand": {"kernel": np.float32([1, -1]).reshape(1, 1, 1, 2), "bias": np.float32([0, 2])},
    }
    y = layer.apply({"params": params}, x)  # 3 * 2 - 1 - 4 is 1
    np.testing.assert_allclose(y[0, 0, 0], [2 * nn.sigmoid(1.0), -nn.sigmoid(1.0)], rtol=1e-6)


def test_layer_norm_normalises_each_pixel_over_its_channels() -> None:
    x = np.float32([[[[1, 3], [-2, 2]]], [[[5, 5], [0, 1e4]]]])
    params = {"scale": np.float32([1, 10]), "bias": np.float32([0, 7])}
    y = ops.LayerNorm().apply({"params": params}, x)
    expected = [[[[-1, 17], [-1, 17]]], [[[0, 7], [-1, 17]]]]
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    in_half = ops.LayerNorm(compute_dtype=jnp.bfloat16).apply({"params": params}, x.astype(jnp.bfloat16))
    assert in_half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(in_half, np.float32), expected, rtol=1e-2)


def _conv(*args: object, **kwargs: object) -> ops.Conv:
    return ops.Conv(*args, initialization=ops.INITIALIZERS["torch"], **kwargs)
