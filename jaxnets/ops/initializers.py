"""Initial weights as PyTorch or Flax draws them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = nn.initializers.Initializer
BiasInitializer = Callable[[int], Initializer]
"""From the fan-in of the layer's kernel to the initialiser of its bias."""

kaiming_normal_fan_out: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""Normal with variance 2/fan_out (He et al. 2015), which torchvision's ResNets use for convolutions."""


@functools.cache  # JAX compiles one initialiser once
def torch_default_bias(fan_in: int) -> Initializer:
    """Uniform on ±1/sqrt(fan_in), PyTorch's default for the bias of a dense layer or convolution."""

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


def alone(init: Initializer) -> Initializer:
    """`init` as a program of its own, compiled once for each shape and type."""
    return jax.jit(init, static_argnums=(1, 2))


def zero_bias(fan_in: int) -> Initializer:
    """Zeros, Flax's default, whatever the fan-in."""
    del fan_in
    return nn.initializers.zeros


class Initialization(NamedTuple):
    """How the kernel and the bias of a layer begin."""

    kernel: Initializer
    bias: BiasInitializer


# PyTorch's default kernel is uniform on ±1/sqrt(fan_in): Kaiming uniform with a = sqrt(5).
BY_STYLE = {
    "torch": Initialization(
        nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"), torch_default_bias
    ),
    "flax": Initialization(nn.initializers.lecun_normal(), zero_bias),
}
"""The library's defaults for dense layers and convolutions, by name."""
