"""Batch normalisation with PyTorch's semantics."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


class BatchNorm(nn.Module):
    """Normalises each channel of [B, H, W, C] over the batch and the pixels, as torch.nn.BatchNorm2d.

    `momentum` is PyTorch's: running = (1 - momentum) * running + momentum * batch. The running variance
    takes the unbiased batch variance, the output the biased one. With `axis_name` the batch is that of
    all devices on the axis (torch.nn.SyncBatchNorm). Variables: params/scale, params/bias [C];
    batch_stats/mean, batch_stats/var [C]. Raises ValueError where training sees one value a channel.
    """

    epsilon: float = 1e-5
    momentum: float = 0.1
    axis_name: str | None = None
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels, self.dtype)
        bias = self.param("bias", nn.initializers.zeros, channels, self.dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, self.dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, self.dtype)
        if train and not self.is_initializing():
            mean, var, count = self._batch_statistics(x.astype(self.dtype))
            unbiased = lax.stop_gradient(var) * (count / (count - 1))
            running_mean.value += self.momentum * (lax.stop_gradient(mean) - running_mean.value)
            running_var.value += self.momentum * (unbiased - running_var.value)
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * lax.rsqrt(var + self.epsilon)
        y = (x.astype(self.dtype) - mean) * factor + bias
        return y.astype(self.compute_dtype or self.dtype)

    def _batch_statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array, int]:
        """Mean [C], biased variance [C], and the number of values a channel, over the axis too.

        Two passes: the one-pass form (mean of squares less square of mean) cancels.
        """
        count = x.size // x.shape[-1]
        mean = x.mean(axis=(0, 1, 2))
        if self.axis_name is not None:
            count *= lax.axis_size(self.axis_name)
            mean = lax.pmean(mean, self.axis_name)
        if count < 2:
            raise ValueError("batch normalisation needs more than one value a channel to train on")
        var = jnp.square(x - mean).mean(axis=(0, 1, 2))
        if self.axis_name is not None:
            var = lax.pmean(var, self.axis_name)
        return mean, var, count
