"""The Linen layers with weights that every network is built of."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.errors import ConfigError
from jaxnets.ops.cpu_kernels import Implementation
from jaxnets.ops.functional import batch_norm, convolution, per_channel, values_per_channel
from jaxnets.ops.initializers import Initialization
from jaxnets.ops.windows import Pair, pair


class Conv(nn.Module):
    """torch.nn.Conv2d: [B, H, W, C] -> [B, H', W', features].

    Attributes:
        features: the number of output channels.
        kernel_size: pixels, or (height, width).
        stride: pixels.
        padding: pixels on each side, (vertical, horizontal), or "same" for the size of the input at stride 1.
        use_bias: add a bias [features].
        dtype: of the parameters.
        compute_dtype: of the convolution; None: `dtype`.
        implementation: "auto", or "xla" for forward mode (`jax.jvp`).
    """

    features: int
    kernel_size: int | Pair
    initialization: Initialization
    stride: int = 1
    padding: int | Pair | Literal["same"] = 0
    use_bias: bool = True
    dtype: Any = jnp.float32
    compute_dtype: Any = None
    implementation: Implementation = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        compute_dtype, window = self.compute_dtype or self.dtype, pair(self.kernel_size)
        rows, columns = (side // 2 for side in window) if self.padding == "same" else pair(self.padding)
        shape = (*window, x.shape[-1], self.features)
        kernel = self.param("kernel", self.initialization.kernel, shape, self.dtype)
        x, kernel = x.astype(compute_dtype), kernel.astype(compute_dtype)
        padding, strides = ((rows, rows), (columns, columns)), pair(self.stride)
        y = convolution(x, kernel, strides=strides, padding=padding, implementation=self.implementation)
        if self.use_bias:
            fan_in = shape[0] * shape[1] * shape[2]
            bias = self.param("bias", self.initialization.bias(fan_in), (self.features,), self.dtype)
            y = y + lax.broadcast_to_rank(bias.astype(compute_dtype), y.ndim)
        return y


class Dense(nn.Module):
    """torch.nn.Linear: [B, fan_in] -> [B, features], kernel [fan_in, features]."""

    features: int
    initialization: Initialization
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = x.shape[-1]
        kernel = self.param("kernel", self.initialization.kernel, (fan_in, self.features), self.dtype)
        bias = self.param("bias", self.initialization.bias(fan_in), (self.features,), self.dtype)
        compute_dtype = self.compute_dtype or self.dtype
        y = x.astype(compute_dtype) @ kernel.astype(compute_dtype)
        return y + lax.broadcast_to_rank(bias.astype(compute_dtype), y.ndim)


class BatchNorm(nn.Module):
    """Normalises each channel of [B, H, W, C] over the batch and the pixels, as torch.nn.BatchNorm2d.

    The running variance takes the unbiased batch variance, the output the biased one. Variables:
    params/scale, params/bias, batch_stats/mean, batch_stats/var, each [C].

    Attributes:
        epsilon: added to the variance.
        momentum: PyTorch's: running = (1 - momentum) * running + momentum * batch.
        axis_name: the batch is that of all devices of this axis (torch.nn.SyncBatchNorm).
        dtype: of parameters and statistics.
        compute_dtype: of the output; None: `dtype`.
        implementation: "auto", or "xla" for forward mode (`jax.jvp`) in training.

    Raises:
        ConfigError: training sees one value per channel.
    """

    epsilon: float = 1e-5
    momentum: float = 0.1
    axis_name: str | None = None
    dtype: Any = jnp.float32
    compute_dtype: Any = None
    implementation: Implementation = "auto"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels, self.dtype)
        bias = self.param("bias", nn.initializers.zeros, channels, self.dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, self.dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, self.dtype)
        out = self.compute_dtype or self.dtype
        if not train or self.is_initializing():
            factor = scale * lax.rsqrt(running_var.value + self.epsilon)
            mean, factor, bias = per_channel(x.ndim, running_mean.value, factor, bias)
            return ((x.astype(self.dtype) - mean) * factor + bias).astype(out)
        count = values_per_channel(x, self.axis_name)
        if count < 2:
            raise ConfigError(
                "batch normalisation trains on more than one value a channel, and a batch has one: leave out "
                "an epoch's short batch by --config.train.drop_last=True, or change --config.train.batch_size"
            )
        y, mean, var = batch_norm(x, scale, bias, self.epsilon, self.axis_name, self.implementation)
        unbiased = var * (count / (count - 1))
        running_mean.value += self.momentum * (mean - running_mean.value)
        running_var.value += self.momentum * (unbiased - running_var.value)
        return y.astype(out)
