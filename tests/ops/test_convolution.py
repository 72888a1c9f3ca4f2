"""The form for CPUs against the reference and against numpy, over shapes, strides and paddings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnets.ops import convolution

PADS = st.tuples(st.integers(0, 2), st.integers(0, 2))


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, tuple, tuple]:
    kernel = (draw(st.sampled_from([1, 2, 3, 5])), draw(st.sampled_from([1, 3, 7])))
    padding = (draw(PADS), draw(PADS))
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    # Sides on both sides of the thresholds at which the form changes.
    height = draw(st.integers(max(1, kernel[0] - sum(padding[0])), 20))
    width = draw(st.integers(max(1, kernel[1] - sum(padding[1])), 20))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    x = generator.normal(size=(2, height, width, 3))
    return x, generator.normal(size=(*kernel, 3, 4)), strides, padding


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _with_gradients(x, kernel, strides, padding, lowering):
    def function(x, kernel):
        return convolution(x, kernel, strides=strides, padding=padding, lowering=lowering)

    y, pull = jax.vjp(function, x, kernel)
    return y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))


@pytest.mark.usefixtures("x64")
class TestAgainstReference:
    @settings(max_examples=25, deadline=None)
    @given(cases())
    def test_forward_and_gradients(self, case: tuple) -> None:
        x, kernel, strides, padding = case
        ours = _with_gradients(x, kernel, strides, padding, "auto")
        theirs = _with_gradients(x, kernel, strides, padding, "reference")
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-10)

    def test_values_by_hand(self) -> None:
        x = np.arange(9.0).reshape(1, 3, 3, 1)
        kernel = np.array([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1)
        np.testing.assert_array_equal(convolution(x, kernel)[0, :, :, 0], [[-4, -4], [-4, -4]])

    def test_second_derivatives(self) -> None:
        generator = np.random.default_rng(0)
        x, kernel = generator.normal(size=(2, 5, 5, 2)), generator.normal(size=(3, 3, 2, 2))

        def energy(x, lowering):
            return jnp.sum(convolution(x, kernel, lowering=lowering) ** 3)

        slope = lambda lowering: jax.grad(  # noqa: E731
            lambda x: jnp.sum(jax.grad(energy)(x, lowering) ** 2)
        )
        np.testing.assert_allclose(slope("auto")(x), slope("reference")(x), rtol=1e-9)

    def test_vmap_and_remat(self) -> None:
        generator = np.random.default_rng(0)
        xs, kernel = generator.normal(size=(3, 2, 5, 5, 2)), generator.normal(size=(3, 3, 2, 2))
        by_one = np.stack([convolution(x, kernel) for x in xs])
        np.testing.assert_allclose(
            jax.vmap(lambda x: convolution(x, kernel))(xs), by_one, rtol=1e-12
        )
        loss = lambda x: jnp.sum(convolution(x, kernel) ** 2)  # noqa: E731
        np.testing.assert_allclose(
            jax.grad(jax.checkpoint(loss))(xs[0]), jax.grad(loss)(xs[0]), rtol=1e-12
        )


def test_forward_mode_has_the_reference_form() -> None:
    x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
    function = functools.partial(convolution, kernel=kernel, lowering="reference")
    _, tangent = jax.jvp(function, (x,), (x,))
    np.testing.assert_allclose(tangent, 9.0)


def test_a_program_for_gpus_holds_the_plain_convolution() -> None:
    x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
    lowered = jax.jit(convolution).trace(x, kernel).lower(lowering_platforms=("cuda",))
    assert "stablehlo.convolution" in lowered.as_text()
