"""Batch normalisation with PyTorch's semantics."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.errors import ConfigError
from jaxnets.ops.cpu_kernels import normalization as in_cpp
from jaxnets.ops.implementation import Implementation, kernels_of

PIXELS = (0, 1, 2)
"""The axes of [B, H, W, C] that a channel's statistics are taken over."""

Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


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
            return ((x.astype(self.dtype) - running_mean.value) * factor + bias).astype(out)
        count = _count(x, self.axis_name)
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
        kernels = kernels_of(self.implementation)

        if self.implementation == "xla":
            return plain_batch_norm(x, scale, bias, self.epsilon, self.axis_name)

        def in_jax(*arrays: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            return batch_norm(*arrays, self.epsilon, self.axis_name)

        def for_cpu(*arrays: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            return in_cpp.batch_norm(*arrays, self.epsilon, kernels)

        if kernels is None or self.axis_name is not None or not in_cpp.can_normalize(x, scale):
            return in_jax(x, scale, bias)
        return lax.platform_dependent(x, scale, bias, cpu=for_cpu, default=in_jax)


def plain_batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `batch_norm`, with the derivatives that JAX makes of the formula: in any mode and of any order."""
    (y, mean, var), _ = _forward(x, scale, bias, epsilon, axis_name)
    return y, lax.stop_gradient(mean), lax.stop_gradient(var)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalised [B, H, W, C], and the batch's mean and biased variance [C], in the type of `scale`.

    The statistics carry no gradient of their own. The gradient of the rest is written out: JAX's own reads
    the images once more, for a sum that is zero. It has reverse mode only, of any order.
    """
    return _forward(x, scale, bias, epsilon, axis_name)[0]


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Saved]:
    values = x.astype(scale.dtype)
    mean = _mean(values, axis_name)
    # Two passes: the one-pass form (mean of squares less square of mean) cancels.
    var = _mean(jnp.square(values - mean), axis_name)
    deviation = lax.rsqrt(var + epsilon)
    return ((values - mean) * (scale * deviation) + bias, mean, var), (x, scale, mean, deviation)


def _backward(
    epsilon: float,
    axis_name: str | None,
    saved: Saved,
    gradients: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    del epsilon
    x, scale, mean, deviation = saved
    gradient, *_ = gradients
    normalized = (x.astype(scale.dtype) - mean) * deviation
    sums = gradient.sum(axis=PIXELS), (gradient * normalized).sum(axis=PIXELS)
    # A device's own sums are its share of the parameters' gradient; the images' takes those of all.
    of_all = sums if axis_name is None else lax.psum(sums, axis_name)
    shift, tilt = (each / _count(x, axis_name) for each in of_all)
    x_gradient = (scale * deviation) * (gradient - shift - normalized * tilt)
    return x_gradient.astype(x.dtype), sums[1], sums[0]


batch_norm.defvjp(_forward, _backward)


def _mean(values: jax.Array, axis_name: str | None) -> jax.Array:
    mean = values.mean(axis=PIXELS)
    return mean if axis_name is None else lax.pmean(mean, axis_name)


def _count(x: jax.Array, axis_name: str | None) -> int:
    """Values a channel, on all devices of the axis."""
    count = x.size // x.shape[-1]
    return count if axis_name is None else count * lax.axis_size(axis_name)
