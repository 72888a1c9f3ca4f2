"""Initial weights as PyTorch or Flax draws them.

A network has kernels of about thirty shapes, and XLA takes a tenth of a second or more to compile a program
that draws random numbers. So outside of a program they are drawn in pieces of one size, by one program.
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


def torch_default_bias(fan_in: int) -> Initializer:
    """Uniform on ±1/sqrt(fan_in), PyTorch's default for the bias of a dense layer or convolution."""
    bound = fan_in**-0.5
    return _drawing("uniform", lambda _, dtype: (dtype(-bound), dtype(bound), dtype(1)))


def _initializer(distribution: Distribution, factor: Callable[[tuple[int, ...], Any], Any]) -> Initializer:
    def numbers(shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any, Any]:
        low, factors = dtype(-1), factor(shape, dtype)
        if distribution == "normal":
            low = np.nextafter(low, dtype(0))
            factors *= dtype(math.sqrt(2))  # XLA makes one of two constants; so do we
        return low, dtype(1), factors

    return _drawing(distribution, numbers)


def _drawing(distribution: Distribution, numbers: Callable[..., tuple[Any, Any, Any]]) -> Initializer:
    """Draws uniform numbers from [low, high), maps them to normal ones if wanted, and multiplies them."""

    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        low, high, factor = numbers(tuple(shape), np.dtype(dtype).type)
        return _draw_p.bind(
            jax.random.key_data(key),
            implementation=str(jax.random.key_impl(key)),
            shape=tuple(shape),
            distribution=distribution,
            low=low,
            high=high,
            factor=factor,
        )

    return init


_draw_p = Primitive("draw_weights")
"""Draws an array from the data of a key; computed in pieces unless it is part of a program."""


def _draw(
    data: jax.Array,
    *,
    implementation: str,
    shape: tuple[int, ...],
    distribution: Distribution,
    low: Any,
    high: Any,
    factor: Any,
) -> jax.Array:
    """The array in one piece."""
    key = jax.random.wrap_key_data(data, impl=implementation)
    drawn = jax.random.uniform(key, shape, factor.dtype, low, high)
    return (lax.erf_inv(drawn) if distribution == "normal" else drawn) * factor


def _draw_in_pieces(data: jax.Array, **params: Any) -> jax.Array:
    """The same numbers: the bits of each depend on the key and on its place alone."""
    factor, shape, size = params["factor"], params["shape"], math.prod(params["shape"])
    by_place = params["implementation"] == "threefry2x32" and getattr(
        jax.config, "jax_threefry_partitionable", True
    )
    if not by_place or factor.dtype != np.float32 or size >= 1 << 32:
        return jax.jit(functools.partial(_draw, **params))(data)
    starts = np.arange(0, size, PIECE, dtype=np.uint32)
    pieces = [_uniform_piece(data, start, params["low"], params["high"]) for start in starts]
    if params["distribution"] == "normal":
        pieces = [_erf_inv(piece) for piece in pieces]
    drawn = np.empty((len(pieces), PIECE), factor.dtype)
    for row, piece in zip(drawn, pieces, strict=True):
        np.multiply(piece, factor, out=row)
    return jax.device_put(drawn.ravel()[:size].reshape(shape))


@jax.jit
def _uniform_piece(data: jax.Array, start: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """The numbers from place `start` on, as jax.random.uniform draws them."""
    places = start + lax.iota(np.uint32, PIECE)
    first, second = jnp.split(threefry_2x32(data, jnp.concatenate([jnp.zeros_like(places), places])), 2)
    mantissa = ((first ^ second) >> np.uint32(9)) | np.float32(1).view(np.uint32)
    uniform = lax.bitcast_convert_type(mantissa, np.float32) - np.float32(1)
    return lax.max(low, uniform * (high - low) + low)


_erf_inv = jax.jit(lax.erf_inv)


def _batch(arguments: Any, axes: Any, **params: Any) -> tuple[jax.Array, int]:
    return jax.vmap(functools.partial(_draw, **params), in_axes=axes)(*arguments), 0


_draw_p.def_impl(_draw_in_pieces)
_draw_p.def_abstract_eval(lambda _, *, shape, factor, **__: jax.core.ShapedArray(shape, factor.dtype))
mlir.register_lowering(_draw_p, mlir.lower_fun(_draw, multiple_results=False))
batching.primitive_batchers[_draw_p] = _batch


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

GLOROT = Initialization(scaled("uniform", 1.0, "fan_avg"), zero_bias)
"""Glorot's uniform: Keras's default for dense layers and convolutions."""
KAIMING = Initialization(scaled("normal", 2.0, "fan_out"), zero_bias)
"""Kaiming's normal with the fan-out: torchvision's for convolutions."""
