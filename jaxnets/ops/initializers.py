"""Initial weights as PyTorch or Flax draws them.

A network has kernels of about fifty shapes, and XLA takes half a second to compile a program that draws
random numbers. So each draw has a power-of-two size, and a small program slices and reshapes it.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Initializer = nn.initializers.Initializer
Distribution = Literal["normal", "uniform"]

MAX_OVERDRAW = 1 << 20
"""Numbers that may be drawn beyond those that are wanted."""


class Initialization(NamedTuple):
    """How a layer begins: its kernel, and, from the fan-in of the kernel, its bias."""

    kernel: Initializer
    bias: Callable[[int], Initializer]


def scaled(
    distribution: Distribution, scale: float, fan: Literal["fan_in", "fan_out", "fan_avg"]
) -> Initializer:
    """Kernels of variance `scale` over the fan, as jax.nn.initializers.variance_scaling draws them."""

    def deviation(shape: tuple[int, ...], dtype: Any) -> Any:
        pixels = math.prod(shape[:-2])
        fan_in, fan_out = pixels * shape[-2], pixels * shape[-1]
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        return np.sqrt((3 if distribution == "uniform" else 1) * dtype(scale / fans[fan]))

    return _initializer(distribution, deviation)


def normal(deviation: float) -> Initializer:
    """Normal of one deviation for every shape, as jax.nn.initializers.normal draws it."""
    return _initializer("normal", lambda _, dtype: dtype(deviation))


def _initializer(distribution: Distribution, factor: Callable[[tuple[int, ...], Any], Any]) -> Initializer:
    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        number, size = np.dtype(dtype).type, math.prod(shape)
        drawn = 1 << (size - 1).bit_length()
        count = drawn if drawn - size <= MAX_OVERDRAW else size
        factors = factor(tuple(shape), number)
        if distribution == "normal":
            factors *= number(math.sqrt(2))  # XLA makes one of two constants; so do we
        return _cut(_draw(key, count, number, distribution), factors, tuple(shape))

    return init


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _draw(key: jax.Array, count: int, dtype: Any, distribution: Distribution) -> jax.Array:
    """Uniform on [-1, 1), or what is normal after multiplication by sqrt(2); the first are of any count."""
    if distribution == "uniform":
        return jax.random.uniform(key, (count,), dtype, -1)
    least = np.nextafter(dtype(-1), dtype(0), dtype=dtype)
    return lax.erf_inv(jax.random.uniform(key, (count,), dtype, least, dtype(1)))


@functools.partial(jax.jit, static_argnums=2)
def _cut(drawn: jax.Array, factor: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return (drawn[: math.prod(shape)] * factor).reshape(shape)


@functools.cache  # JAX compiles one initialiser once
def torch_default_bias(fan_in: int) -> Initializer:
    """Uniform on ±1/sqrt(fan_in), PyTorch's default for the bias of a dense layer or convolution."""
    bound = fan_in**-0.5

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def draw(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


def zero_bias(fan_in: int) -> Initializer:
    """Zeros, Flax's default, whatever the fan-in."""
    del fan_in
    return nn.initializers.zeros


INITIALIZERS = {
    # PyTorch's default kernel is uniform on ±1/sqrt(fan_in): Kaiming uniform with a = sqrt(5).
    "torch": Initialization(scaled("uniform", 1 / 3, "fan_in"), torch_default_bias),
    "flax": Initialization(jax.jit(nn.initializers.lecun_normal(), static_argnums=(1, 2)), zero_bias),
}
"""The library's defaults for dense layers and convolutions, by name."""
