"""The Linen layers with weights that every network is built of."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets.ops.convolution import convolution
from jaxnets.ops.implementation import Implementation
from jaxnets.ops.initializers import BiasInitializer, Initializer
from jaxnets.ops.windows import Padding, Pair


class Conv(nn.Module):
    """torch.nn.Conv2d: [B, H, W, C] -> [B, H', W', features]; no bias where `bias_init` is None."""

    features: int
    kernel_size: Pair
    kernel_init: Initializer
    bias_init: BiasInitializer | None = None
    strides: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    dtype: Any = jnp.float32
    compute_dtype: Any = None
    implementation: Implementation = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.dtype)
        compute_dtype = self.compute_dtype or self.dtype
        y = convolution(
            x.astype(compute_dtype),
            kernel.astype(compute_dtype),
            strides=self.strides,
            padding=self.padding,
            implementation=self.implementation,
        )
        if self.bias_init is not None:
            fan_in = shape[0] * shape[1] * shape[2]
            bias = self.param("bias", self.bias_init(fan_in), (self.features,), self.dtype)
            y = y + bias.astype(compute_dtype)
        return y


class Dense(nn.Module):
    """torch.nn.Linear: [B, fan_in] -> [B, features], kernel [fan_in, features]."""

    features: int
    kernel_init: Initializer
    bias_init: BiasInitializer
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (fan_in, self.features), self.dtype)
        bias = self.param("bias", self.bias_init(fan_in), (self.features,), self.dtype)
        compute_dtype = self.compute_dtype or self.dtype
        return x.astype(compute_dtype) @ kernel.astype(compute_dtype) + bias.astype(compute_dtype)
