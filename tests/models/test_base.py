"""Layers shared by several networks: ceil mode, adaptive pooling and padding as in PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnets.models.base import Network, adaptive_average_pool

LAYERS = Network(3).layers()
max_pool_ceil = functools.partial(LAYERS.max_pool, ceil_mode=True)


def _image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize(("size", "side", "count"), [(7, 3, 3), (8, 3, 4), (2, 3, 1), (7, 2, 4)])
def test_ceil_mode_windows_may_exceed_the_image(size: int, side: int, count: int) -> None:
    x = _image(size, size) - 100  # negative, so padding with zeros would be the maximum
    pooled = max_pool_ceil(jnp.asarray(x), side, stride=2)
    expected = [
        [x[:, 2 * i : 2 * i + side, 2 * j : 2 * j + side].max((1, 2)) for j in range(count)]
        for i in range(count)
    ]
    np.testing.assert_array_equal(pooled, np.stack([np.stack(row, 1) for row in expected], 1))


def test_ceil_mode_windows_start_inside_the_image() -> None:
    x = jnp.asarray(_image(4, 5))
    np.testing.assert_array_equal(max_pool_ceil(x, 1, stride=3), x[:, ::3, ::3])


@pytest.mark.parametrize(("height", "width"), [(6, 3), (7, 4), (14, 1)])
def test_adaptive_average_pool_bins(height: int, width: int) -> None:
    x = _image(height, width)
    rows = [(i * height // 4, int(np.ceil((i + 1) * height / 4))) for i in range(4)]
    columns = [(i * width // 4, int(np.ceil((i + 1) * width / 4))) for i in range(4)]
    expected = [[x[:, a:b, c:d].mean((1, 2)) for c, d in columns] for a, b in rows]
    pooled = adaptive_average_pool(jnp.asarray(x), (4, 4))
    expected = np.stack([np.stack(row, 1) for row in expected], 1)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)


@given(st.tuples(st.integers(0, 5), st.integers(0, 5)))
def test_same_padding_preserves_the_size(halves: tuple[int, int]) -> None:
    kernel = (2 * halves[0] + 1, 2 * halves[1] + 1)
    conv = LAYERS.conv(1, kernel, padding="same")
    x = jax.ShapeDtypeStruct((2, 7, 9, 1), jnp.float32)
    y, _ = jax.eval_shape(functools.partial(conv.init_with_output, jax.random.key(0)), x)
    assert y.shape == x.shape


@pytest.mark.oracle
def test_pooling_matches_pytorch() -> None:
    import torch

    for height, width, side, stride in [(7, 8, 3, 2), (2, 5, 2, 2), (4, 5, 1, 3), (9, 10, 3, 3)]:
        x = _image(height, width)
        theirs = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        pooled = max_pool_ceil(jnp.asarray(x), side, stride=stride)
        expected = torch.nn.functional.max_pool2d(theirs, side, stride, ceil_mode=True)
        np.testing.assert_array_equal(pooled, expected.permute(0, 2, 3, 1))
        for size in ((4, 4), (6, 6), (1, 3)):
            pooled = adaptive_average_pool(jnp.asarray(x), size)
            expected = torch.nn.functional.adaptive_avg_pool2d(theirs, size).permute(0, 2, 3, 1)
            np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)
