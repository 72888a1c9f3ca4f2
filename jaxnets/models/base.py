"""What the networks share: settings of layers, the path from images to logits, entries of the registry."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.ops.cpu_kernels.load import Implementation
from jaxnets.ops.initializers import Initialization
from jaxnets.ops.windows import Pair


@dataclasses.dataclass(frozen=True)
class Entry:
    """A network of the registry, made by `factory` from the fields of config.model named in `fields`.

    It takes images of at least `smallest` pixels a side, or vectors (`kind` as in Source). `variants` are the
    values of --config.model.variant, the default first, and `truncation_blocks` those of
    --config.model.truncate_after, from input to output. `auxiliary_weight` is the published weight of each
    auxiliary head in the loss; the heads are trained on images of at least `auxiliary_size` pixels a side.
    `averages` marks networks whose head starts with a global average pooling, so that it accepts the mean.
    """

    title: str
    factory: type[nn.Module]
    fields: Sequence[str] = ()
    smallest: int = 1
    kind: str = "image"
    variants: tuple[str, ...] = ()
    truncation_blocks: tuple[str, ...] = ()
    auxiliary_weight: float = 0.0
    auxiliary_size: int = 1
    averages: bool = False


@dataclasses.dataclass(frozen=True)
class Layers:
    """Makes the layers of a network with the settings that all of them share.

    `conv_init` and `dense_init` initialise kernels and biases; `axis_name` is the axis over which batch
    statistics are synchronised. Sizes are numbers or pairs (height, width); padding is symmetric.
    """

    conv_init: Initialization
    dense_init: Initialization
    epsilon: float
    axis_name: str | None
    implementation: Implementation
    dtype: Any
    compute_dtype: Any
    conv_bias: bool = False

    def conv(
        self,
        features: int,
        kernel_size: int | Pair,
        *,
        stride: int = 1,
        padding: int | Pair = 0,
        bias: bool | None = None,
        name: str | None = None,
    ) -> ops.Conv:
        """torch.nn.Conv2d: [B, H, W, C] -> [B, H', W', features]."""
        height, width = _pair(padding)
        with_bias = self.conv_bias if bias is None else bias
        return ops.Conv(
            features,
            _pair(kernel_size),
            kernel_init=self.conv_init.kernel,
            bias_init=self.conv_init.bias if with_bias else None,
            strides=(stride, stride),
            padding=((height, height), (width, width)),
            implementation=self.implementation,
            dtype=self.dtype,
            compute_dtype=self.compute_dtype,
            name=name,
        )

    def norm(self, *, name: str | None = None) -> ops.BatchNorm:
        """torch.nn.BatchNorm2d."""
        return ops.BatchNorm(
            epsilon=self.epsilon,
            axis_name=self.axis_name,
            implementation=self.implementation,
            dtype=self.dtype,
            compute_dtype=self.compute_dtype,
            name=name,
        )

    def conv_norm(
        self,
        features: int,
        kernel_size: int | Pair,
        *,
        stride: int = 1,
        padding: int | Pair = 0,
        name: str | None = None,
    ) -> "ConvNorm":
        """Convolution, batch normalisation and ReLU."""
        return ConvNorm(features, kernel_size, stride, padding, self, name=name)

    def dense(
        self, features: int, *, init: Initialization | None = None, name: str | None = None
    ) -> ops.Dense:
        """torch.nn.Linear: [B, inputs] -> [B, features]."""
        kernel_init, bias_init = init or self.dense_init
        return ops.Dense(
            features,
            kernel_init=kernel_init,
            bias_init=bias_init,
            dtype=self.dtype,
            compute_dtype=self.compute_dtype,
            name=name,
        )

    def max_pool(self, x: jax.Array, window: int, *, stride: int, padding: int = 0) -> jax.Array:
        """torch.nn.MaxPool2d: [B, H, W, C] -> [B, H', W', C]."""
        edges = (padding, padding)
        return ops.max_pool(
            x,
            (window, window),
            strides=(stride, stride),
            padding=(edges, edges),
            implementation=self.implementation,
        )


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation, ReLU: [B, H, W, C] -> [B, H', W', features]."""

    features: int
    kernel_size: int | Pair
    stride: int
    padding: int | Pair
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.layers.conv(
            self.features,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            bias=False,
            name="conv",
        )(x)
        return nn.relu(self.layers.norm(name="norm")(x, train=train))


class Network(nn.Module):
    """A convolutional network: [B, H, W, C] -> logits [B, num_classes], which are `head(features(x))`.

    Subclasses define `features`, and in `setup` the `drop` and `classifier` that `head` uses.
    """

    num_classes: int
    dropout: float = 0.0
    init_scheme: str = "torch"
    axis_name: str | None = None
    implementation: Implementation = "auto"
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    def layers(
        self,
        *,
        conv: Initialization | None = None,
        dense: Initialization | None = None,
        epsilon: float = 1e-5,
        conv_bias: bool = False,
    ) -> Layers:
        """The layers' common settings; initialisations that are not given are those of `init_scheme`."""
        default = ops.INITIALIZERS[self.init_scheme]
        return Layers(
            conv or default,
            dense or default,
            epsilon,
            self.axis_name,
            self.implementation,
            self.dtype,
            self.compute_dtype,
            conv_bias,
        )

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, h, w, features]."""
        raise NotImplementedError

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, features] -> logits [B, num_classes], in the parameters' dtype."""
        pooled = self.drop(ops.global_average_pool(features), deterministic=not train)
        return self.classifier(pooled).astype(self.dtype)

    def __call__(self, x: jax.Array, *, train: bool = False) -> Any:
        return self.head(self.features(x, train=train), train=train)


def same(kernel_size: int | Pair) -> Pair:
    """The padding that keeps the size at stride 1, for odd kernels."""
    height, width = _pair(kernel_size)
    return height // 2, width // 2


def _pair(size: int | Pair) -> Pair:
    return (size, size) if isinstance(size, int) else size
