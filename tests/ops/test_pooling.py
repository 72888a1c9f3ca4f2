"""Max pooling: values, ties, NaN and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnets.ops import global_average_pool, max_pool


@pytest.mark.usefixtures("x64")
@settings(max_examples=15, deadline=None)
@given(
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pad=st.integers(0, 1),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    seed=st.integers(0, 1000),
)
def test_both_forms_agree_on_values_full_of_ties(window, strides, pad, size, seed) -> None:
    pad = min(pad, min(window) - 1)
    padding = ((pad, pad), (pad, pad))
    x = np.random.default_rng(seed).integers(0, 3, size=(2, *size, 2)).astype(float)

    def with_gradient(lowering):
        pool = lambda x: max_pool(  # noqa: E731
            x, window, strides=strides, padding=padding, lowering=lowering
        )
        y, pull = jax.vjp(pool, x)
        return y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))[0]

    for mine, other in zip(with_gradient("auto"), with_gradient("reference"), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12)


def test_the_gradient_goes_to_the_first_of_equals() -> None:
    x = jnp.zeros((1, 2, 2, 1))
    gradient = jax.grad(lambda x: max_pool(x, (2, 2), strides=(2, 2)).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0], [0, 0]])


def test_nan_wins() -> None:
    x = jnp.array([1.0, jnp.nan, 3.0, 2.0]).reshape(1, 2, 2, 1)
    assert jnp.isnan(max_pool(x, (2, 2), strides=(2, 2))).all()


def test_padding_never_wins() -> None:
    x = -jnp.ones((1, 3, 3, 1))
    pooled = max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    np.testing.assert_array_equal(pooled, -jnp.ones((1, 2, 2, 1)))


def test_global_average() -> None:
    np.testing.assert_allclose(
        global_average_pool(jnp.arange(8.0).reshape(1, 2, 2, 2)), [[3.0, 4.0]]
    )
