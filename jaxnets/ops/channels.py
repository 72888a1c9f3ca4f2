"""Sums over pixels and values of each channel, for CPUs and elsewhere."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata


def on_cpu() -> bool:
    """Whether programs are traced for CPUs; a program that is exported needs the "xla" implementation."""
    return jax.default_backend() == "cpu"


def stored_once(jitted: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A jitted function whose result is stored on CPUs, as that of a custom call.

    XLA's fusion would compute it again for every operation that reads it, from all that it was made of: the
    output of a residual block from those of all blocks before it.
    """

    def call(*arrays: jax.Array | None, **options: Any) -> jax.Array:
        with set_xla_metadata(inlineable="false"):
            return jitted(*arrays, **options)

    return call if on_cpu() else jitted


def channel_sums(x: jax.Array) -> jax.Array:
    """The sum over all axes but the last, such as [B, H, W, C] -> [C].

    On CPUs they are matrix products, one for each image: XLA's own sums took 4 to 100 times as long.
    """
    if not on_cpu():
        return x.sum(axis=tuple(range(x.ndim - 1)))
    parts = x.reshape(len(x) if x.ndim > 2 else 1, -1, x.shape[-1])
    parts = parts.astype(jnp.float32) if x.dtype == jnp.bfloat16 else parts
    count, pixels, _ = parts.shape
    ones = functools.partial(jnp.ones, dtype=parts.dtype)
    sums = jnp.einsum("bp,bpc->bc", ones((count, pixels)), parts, precision="highest")
    return jnp.matmul(ones(count), sums, precision="highest").astype(x.dtype)


def per_channel(rank: int, *values: jax.Array) -> list[jax.Array]:
    """Values [C] as [1, ..., 1, C] of this rank."""
    return [lax.broadcast_to_rank(value, rank) for value in values]


@jax.jit
def relu_gradient(y: jax.Array, gradient: jax.Array) -> jax.Array:
    return jnp.where(y > 0, gradient, jnp.zeros((), gradient.dtype))
