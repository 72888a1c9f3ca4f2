"""Initial weights as PyTorch or Flax draws them.

A network has kernels of about thirty shapes, and XLA takes a tenth of a second or more to compile a program
that draws random numbers. So outside of a program, kernels are drawn in pieces of one size, which one program
of each distribution computes.
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
from jax.extend.core import Primitive
from jax.extend.random import threefry_2x32
from jax.interpreters import batching, mlir

Initializer = nn.initializers.Initializer
Distribution = Literal["normal", "uniform"]

PIECE = 1 << 16
"""Random numbers of a piece."""


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
        number, shape = np.dtype(dtype).type, tuple(shape)
        factors = factor(shape, number)
        if distribution == "normal":
            factors *= number(math.sqrt(2))  # XLA makes one of two constants; so do we
        keys = {"implementation": str(jax.random.key_impl(key))}
        return _draw_p.bind(
            jax.random.key_data(key), factor=factors, shape=shape, distribution=distribution, **keys
        )

    return init


_draw_p = Primitive("draw_kernel")
"""Draws a kernel from the data of a key; computed in pieces unless it is part of a program."""


def _draw(
    data: jax.Array, *, factor: Any, shape: tuple[int, ...], distribution: Distribution, implementation: str
) -> jax.Array:
    """The kernel in one piece."""
    key = jax.random.wrap_key_data(data, impl=implementation)
    low, _ = _range(distribution, factor.dtype)
    uniform = jax.random.uniform(key, (math.prod(shape),), factor.dtype, low)
    return (_transform(uniform, distribution) * factor).reshape(shape)


def _draw_in_pieces(data: jax.Array, **params: Any) -> jax.Array:
    """The same numbers: the bits of each depend on the key and on its place alone."""
    factor, distribution, size = params["factor"], params["distribution"], math.prod(params["shape"])
    by_place = params["implementation"] == "threefry2x32" and jax.config.jax_threefry_partitionable
    if not by_place or factor.dtype != np.float32 or size >= 1 << 32:
        return jax.jit(functools.partial(_draw, **params))(data)
    pieces = [_piece(data, np.uint32(start), distribution) for start in range(0, size, PIECE)]
    return jnp.asarray((np.concatenate(pieces)[:size] * factor).reshape(params["shape"]))


@functools.partial(jax.jit, static_argnums=2)
def _piece(data: jax.Array, start: jax.Array, distribution: Distribution) -> jax.Array:
    """The numbers from place `start` on, as jax.random.uniform draws them, before they are scaled."""
    places = start + lax.iota(np.uint32, PIECE)
    first, second = jnp.split(threefry_2x32(data, jnp.concatenate([jnp.zeros_like(places), places])), 2)
    mantissa = ((first ^ second) >> np.uint32(9)) | np.float32(1).view(np.uint32)
    low, high = _range(distribution, np.float32)
    uniform = (lax.bitcast_convert_type(mantissa, np.float32) - np.float32(1)) * (high - low) + low
    return _transform(lax.max(low, uniform), distribution)


def _range(distribution: Distribution, dtype: Any) -> tuple[Any, Any]:
    number = np.dtype(dtype).type
    low = number(-1)
    return np.nextafter(low, number(0)) if distribution == "normal" else low, number(1)


def _transform(uniform: jax.Array, distribution: Distribution) -> jax.Array:
    """Uniform on [-1, 1), or what is normal after multiplication by sqrt(2)."""
    return lax.erf_inv(uniform) if distribution == "normal" else uniform


def _batch(arguments: Any, axes: Any, **params: Any) -> tuple[jax.Array, int]:
    return jax.vmap(functools.partial(_draw, **params), in_axes=axes)(*arguments), 0


_draw_p.def_impl(_draw_in_pieces)
_draw_p.def_abstract_eval(lambda _, *, factor, shape, **__: jax.core.ShapedArray(shape, factor.dtype))
mlir.register_lowering(_draw_p, mlir.lower_fun(_draw, multiple_results=False))
batching.primitive_batchers[_draw_p] = _batch


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
