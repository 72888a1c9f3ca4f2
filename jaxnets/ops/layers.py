"""The Linen layers with weights that every network is built of."""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.errors import ConfigError
from jaxnets.ops.convolution import convolution
from jaxnets.ops.cpu_kernels.load import Implementation, kernels_of
from jaxnets.ops.initializers import Initialization
from jaxnets.ops.normalization import batch_norm, per_channel, plain_batch_norm, values_per_channel
from jaxnets.ops.windows import Pair, pair


class Conv(nn.Module):
    """torch.nn.Conv2d: [B, H, W, C] -> [B, H', W', features].

    Sizes are numbers or pairs (height, width); padding is symmetric, and "same" keeps the size at stride 1,
    for odd kernels.
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
        window = pair(self.kernel_size)
        rows, columns = (side // 2 for side in window) if self.padding == "same" else pair(self.padding)
        shape = (*window, x.shape[-1], self.features)
        kernel = self.param("kernel", self.initialization.kernel, shape, self.dtype)
        compute_dtype = self.compute_dtype or self.dtype
        y = convolution(
            x.astype(compute_dtype),
            kernel.astype(compute_dtype),
            strides=pair(self.stride),
            padding=((rows, rows), (columns, columns)),
            implementation=self.implementation,
        )
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

    `momentum` is PyTorch's: running = (1 - momentum) * running + momentum * batch. The running variance
    takes the unbiased batch variance, the output the biased one. With `axis_name` the batch is that of
    all devices on the axis (torch.nn.SyncBatchNorm). Variables: params/scale, params/bias [C];
    batch_stats/mean, batch_stats/var [C]. Raises ConfigError where training sees one value a channel.
    The C++ kernels take its sums where the batch is one device's.
    Training has gradients of any order, forward over reverse among them; forward mode of the layer itself
    (`jvp`) is refused by JAX and needs `implementation="xla"`, the plain formula.
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
                "batch normalisation needs more than one value a channel to train on, and a batch has one: "
                "--config.train.drop_last=True leaves out an epoch's short batch, or change "
                "--config.train.batch_size"
            )
        y, mean, var = self._by_batch(x, scale, bias)
        unbiased = var * (count / (count - 1))
        running_mean.value += self.momentum * (mean - running_mean.value)
        running_var.value += self.momentum * (unbiased - running_var.value)
        return y.astype(out)

    def _by_batch(
        self, x: jax.Array, scale: jax.Array, bias: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        options = {"epsilon": self.epsilon, "axis_name": self.axis_name}
        if self.implementation == "xla":
            return plain_batch_norm(x, scale, bias, **options)
        in_jax = functools.partial(batch_norm, **options)
        kernels = kernels_of(self.implementation)
        is_single = x.dtype == scale.dtype == jnp.float32 and x.ndim == 4 and x.size > 0
        if kernels is None or self.axis_name is not None or not is_single:
            return in_jax(x, scale, bias)
        for_cpu = functools.partial(in_jax, kernels=kernels)
        return lax.platform_dependent(x, scale, bias, cpu=for_cpu, default=in_jax)
