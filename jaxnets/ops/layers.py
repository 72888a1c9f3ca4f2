"""The Linen layers with weights that every network is built of."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxnets.errors import ConfigError
from jaxnets.ops.cpu import SAVED
from jaxnets.ops.cpu_kernels import Implementation
from jaxnets.ops.functional import ChannelsOf, FoldedKernel, convolution, dense, fold, folded_convolution
from jaxnets.ops.initializers import Initialization
from jaxnets.ops.normalization import batch_norm, per_channel, values_per_channel
from jaxnets.ops.windows import Pair, pair, same_padding

FOLDED = "folded"
"""The collection of convolutions that include the batch normalisation after them, for inference."""


class Conv(nn.Module):
    """torch.nn.Conv2d: [B, H, W, C] -> [B, H', W', features].

    Attributes:
        features: the number of output channels.
        kernel_size: pixels, or (height, width).
        stride: pixels.
        padding: pixels on each side, (vertical, horizontal), or "same" for TensorFlow's: the output has
            the input's size, divided by the stride and rounded up.
        groups: parts of the channels that are convolved separately.
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
    groups: int = 1
    use_bias: bool = True
    dtype: Any = jnp.float32
    compute_dtype: Any = None
    implementation: Implementation = "auto"

    def options(self, x: jax.Array) -> dict[str, Any]:
        """The arguments of `ops.convolution` for images x [B, H, W, C]."""
        strides = pair(self.stride)
        if self.padding == "same":
            padding = same_padding(x.shape[1:3], pair(self.kernel_size), strides)
        else:
            rows, columns = pair(self.padding)
            padding = ((rows, rows), (columns, columns))
        return {
            "strides": strides,
            "padding": padding,
            "groups": self.groups,
            "implementation": self.implementation,
        }

    @nn.compact
    def __call__(
        self, x: jax.Array, *, scale: float = 1.0, residual: jax.Array | None = None, relu: bool = False
    ) -> jax.Array:
        """Scale * convolution + residual, then ReLU if `relu`; the residual is [B, H', W', features]."""
        shape = (*pair(self.kernel_size), x.shape[-1] // self.groups, self.features)
        kernel, bias = self.param("kernel", self.initialization.kernel, shape, self.dtype), None
        if self.use_bias:
            fan_in = shape[0] * shape[1] * shape[2]
            bias = self.param("bias", self.initialization.bias(fan_in), (self.features,), self.dtype)
        if scale != 1:  # of the parameters: its gradient then takes no pass over the images
            kernel, bias = scale * kernel, None if bias is None else scale * bias
        y = convolution(
            x.astype(self.compute_dtype or self.dtype),
            kernel,
            bias=bias,
            residual=residual,
            relu=relu,
            **self.options(x),
        )
        return checkpoint_name(y, SAVED)

    def folded(self, x: jax.Array, **options: Any) -> jax.Array | None:
        """`ops.functional.folded_convolution` with what `fold` stored; None if nothing is stored."""
        if not self.has_variable(FOLDED, "kernel"):
            return None
        stored = FoldedKernel(*(self.get_variable(FOLDED, name) for name in FoldedKernel._fields))
        x, window = x.astype(self.compute_dtype or self.dtype), pair(self.kernel_size)
        return folded_convolution(x, stored, window, **options, **self.options(x))

    def fold(self, before: "BatchNorm | None", norm: "BatchNorm | None", scale: float) -> None:
        """Stores kernel, bias and the normalisations before and after in the collection FOLDED."""
        kernel = self.get_variable("params", "kernel")
        offset = jnp.zeros(self.features, self.dtype)
        if self.use_bias:
            offset = self.get_variable("params", "bias")
        factor = jnp.ones(self.features, self.dtype)
        if norm is not None:
            factor, mean, bias = norm.inference_factors()
            offset = (offset - mean) * factor + bias
        factor, offset = factor * scale, offset * scale
        options = {"groups": self.groups, "implementation": self.implementation}
        stored = fold(kernel, factor, offset, dtype=self.compute_dtype or self.dtype, **options)
        if before is not None:
            factor, mean, bias = before.inference_factors()
            stored = stored._replace(normalization=jnp.stack([mean, factor, bias]))
        for name, value in stored._asdict().items():
            if value is not None:
                self.put_variable(FOLDED, name, value)


class Dense(nn.Module):
    """torch.nn.Linear: [B, fan_in] -> [B, features], kernel [fan_in, features]."""

    features: int
    initialization: Initialization
    dtype: Any = jnp.float32
    compute_dtype: Any = None
    implementation: Implementation = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = x.shape[-1]
        kernel = self.param("kernel", self.initialization.kernel, (fan_in, self.features), self.dtype)
        bias = self.param("bias", self.initialization.bias(fan_in), (self.features,), self.dtype)
        compute_dtype = self.compute_dtype or self.dtype
        y = dense(x.astype(compute_dtype), kernel, implementation=self.implementation)
        return y + lax.broadcast_to_rank(bias.astype(compute_dtype), y.ndim)


class SqueezeExcitation(nn.Module):
    """torchvision.ops.SqueezeExcitation: multiplies each channel of [B, H, W, C] by a weight.

    The weights are sigmoid(expand(activation(reduce(mean)))) of the mean of each channel, with two 1x1
    convolutions: C to `squeezed` channels and back.

    Attributes:
        conv: makes an `ops.Conv` from its features, kernel size and name.
        squeezed: channels between the convolutions.
        activation: the function between them.

    References:
        Hu et al. 2017, Squeeze-and-Excitation Networks, arXiv:1709.01507.
    """

    conv: Callable[..., Conv]
    squeezed: int
    activation: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        mean = x.mean(axis=(1, 2), keepdims=True)
        y = self.activation(self.conv(self.squeezed, 1, use_bias=True, name="reduce")(mean))
        return x * nn.sigmoid(self.conv(x.shape[-1], 1, use_bias=True, name="expand")(y))


StochasticDepth = functools.partial(nn.Dropout, broadcast_dims=(1, 2, 3), name="StochasticDepth_0")
"""torchvision.ops.StochasticDepth in mode "row" (Huang et al. 2016, arXiv:1603.09382), in training only:
leaves out whole examples of [B, H, W, C]."""


class LayerNorm(nn.Module):
    """Normalises each pixel of [B, ..., C] over its channels, as torch.nn.LayerNorm.

    Attributes:
        epsilon: added to the variance.
        dtype: of the parameters and the arithmetic.
        compute_dtype: of the output; None: `dtype`.

    References:
        Ba, Kiros and Hinton 2016, arXiv:1607.06450.
    """

    epsilon: float = 1e-6
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels, self.dtype)
        bias = self.param("bias", nn.initializers.zeros, channels, self.dtype)
        values = x.astype(self.dtype)
        centered = values - values.mean(axis=-1, keepdims=True)
        variance = jnp.square(centered).mean(axis=-1, keepdims=True)
        scale, bias = per_channel(x.ndim, scale, bias)
        y = centered * lax.rsqrt(variance + self.epsilon) * scale + bias
        return y.astype(self.compute_dtype or self.dtype)


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
    def __call__(
        self, x: jax.Array, *, train: bool, residual: jax.Array | None = None, relu: bool = False
    ) -> jax.Array:
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels, self.dtype)
        bias = self.param("bias", nn.initializers.zeros, channels, self.dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, self.dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, self.dtype)
        out = self.compute_dtype or self.dtype
        if not train or self.is_initializing():
            factor, mean, bias = per_channel(x.ndim, *self.inference_factors())
            y = (x.astype(self.dtype) - mean) * factor + bias
            y = y if residual is None else y + residual.astype(self.dtype)
            return (nn.relu(y) if relu else y).astype(out)
        count = values_per_channel(x, self.axis_name)
        if count < 2:
            raise ConfigError(
                "batch normalization needs more than one value per channel in training, and a batch has one: "
                "set --config.train.drop_last=True, which leaves out an epoch's short batch, or change "
                "--config.train.batch_size"
            )
        options = {"axis_name": self.axis_name, "implementation": self.implementation}
        x = x.astype(out)
        y, mean, var = batch_norm(x, scale, bias, self.epsilon, residual=residual, relu=relu, **options)
        unbiased = var * (count / (count - 1))
        running_mean.value += self.momentum * (mean - running_mean.value)
        running_var.value += self.momentum * (unbiased - running_var.value)
        return y

    def inference_factors(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Factor, mean and bias [C]: in inference the output is (x - mean) * factor + bias."""
        mean, var = (self.get_variable("batch_stats", name) for name in ("mean", "var"))
        scale, bias = (self.get_variable("params", name) for name in ("scale", "bias"))
        return scale * lax.rsqrt(var + self.epsilon), mean, bias


def is_folded(module: nn.Module) -> bool:
    """Whether the variables of this module are those of `jaxnets.models.fold_batch_norm`."""
    return FOLDED in module.variables and not module.is_mutable_collection(FOLDED)


def is_packed(module: nn.Module) -> bool:
    """Whether `is_folded`, with all kernels packed for C++."""
    return is_folded(module) and all(leaf.ndim == 1 for leaf in jax.tree.leaves(module.variables[FOLDED]))


def conv_norm(
    conv: Conv,
    norm: BatchNorm | None,
    x: jax.Array,
    *,
    train: bool,
    before: BatchNorm | None = None,
    scale: float = 1.0,
    residual: jax.Array | None = None,
    relu: bool = False,
    channels: int | None = None,
    into: ChannelsOf | None = None,
) -> jax.Array:
    """Scale * norm(conv(x)) + residual, then ReLU: [B, H, W, C] -> [B, H', W', features].

    With the variables of `jaxnets.models.fold_batch_norm` it is one operation, otherwise one for each layer.

    Args:
        conv: the convolution.
        norm: the batch normalisation after it, or None.
        x: images [B, H, W, C].
        train: whether batch statistics are used.
        before: the batch normalisation before it, which a ReLU follows; or None.
        scale: for a convolution without norm.
        residual: [B, H', W', features], or None.
        relu: whether ReLU is applied last.
        channels: as for `ops.functional.folded_convolution`, if `is_folded`.
        into: likewise.
    """
    y = conv.folded(x, residual=residual, relu=relu, channels=channels, into=into)
    if y is not None:
        return y
    if conv.is_mutable_collection(FOLDED) and not conv.is_initializing():
        conv.fold(before, norm, scale)
    x = x if before is None else before(x, train=train, relu=True)
    if norm is None:
        return conv(x, scale=scale, residual=residual, relu=relu)
    return norm(conv(x), train=train, residual=residual, relu=relu)
