"""What the networks share: registry entries, settings of layers, and the path from images to logits."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxnets import ops
from jaxnets.ops.cpu_kernels import Implementation
from jaxnets.ops.initializers import Initialization
from jaxnets.ops.windows import Pair


@dataclasses.dataclass(frozen=True)
class Entry:
    """A network of the registry; all but the first two have defaults for images.

    Attributes:
        title: the name in tables and messages.
        factory: the Flax module.
        fields: the fields of config.model that are attributes of this module only, such as "width".
        settings: other attributes of the module, and their values in this network, such as its depth.
        smallest: the minimum image size that leaves a pixel after all strides.
        native_size: the image size of the original.
        channels: the channels of the original's images.
        kind: "image" or "vector", as in `Source`.
        variants: the values of model.variant, the default first.
        truncation_blocks: the values of model.truncate_after, from input to output.
        auxiliary_weight: the paper's weight of each auxiliary head in the loss.
        auxiliary_size: the minimum image size for training auxiliary heads.
        averages: whether the head starts with a global average pooling. If so, the cached features of a
            frozen backbone are averaged, which is much smaller.
    """

    title: str
    factory: type[nn.Module]
    fields: Sequence[str] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    smallest: int = 1
    native_size: int = 224
    channels: int = 3
    kind: str = "image"
    variants: tuple[str, ...] = ()
    truncation_blocks: tuple[str, ...] = ()
    auxiliary_weight: float = 0.0
    auxiliary_size: int = 1
    averages: bool = False


class Variant(NamedTuple):
    """How the libraries' forms of a network differ; the initialisations are for `init_scheme` "torch"."""

    epsilon: float
    conv: Initialization
    dense: Initialization
    conv_bias: bool = False
    same_padding: bool = False  # TensorFlow's, which is asymmetric where the stride is 2
    stride_on_3x3: bool = True


class ModelOutput(NamedTuple):
    """The classifier's logits [B, classes], and those of each auxiliary head, nearest the input first."""

    main: jax.Array
    auxiliary: tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True)
class Layers:
    """Makes the layers of a network: `ops.Conv`, ... with the settings that all of them share."""

    conv: Callable[..., ops.Conv]
    norm: Callable[..., ops.BatchNorm]
    dense: Callable[..., ops.Dense]
    layer_norm: Callable[..., ops.LayerNorm]
    implementation: Implementation
    dtype: Any

    def conv_norm(self, *args: Any, **kwargs: Any) -> "ConvNorm":
        """Convolution, batch normalisation and activation, ReLU by default."""
        return ConvNorm(self, *args, **kwargs)

    def max_pool(
        self, x: jax.Array, window: int, *, stride: int, padding: int = 0, ceil_mode: bool = False
    ) -> jax.Array:
        """torch.nn.MaxPool2d: [B, H, W, C] -> [B, H', W', C]; `ceil_mode` without padding only."""
        rows, columns = (_overhang(extent, window, stride) if ceil_mode else 0 for extent in x.shape[1:3])
        edges = ((padding, padding + rows), (padding, padding + columns))
        return ops.max_pool(
            x, (window, window), strides=(stride, stride), padding=edges, implementation=self.implementation
        )

    def average_pool(
        self, x: jax.Array, window: int, *, stride: int, padding: int = 0, count_include_pad: bool = True
    ) -> jax.Array:
        """torch.nn.AvgPool2d: [B, H, W, C] -> [B, H', W', C]."""
        return ops.average_pool(
            x,
            (window, window),
            strides=(stride, stride),
            padding=((padding, padding), (padding, padding)),
            count_include_pad=count_include_pad,
            implementation=self.implementation,
        )

    def pool(self, x: jax.Array, kind: str, window: int, *, stride: int) -> jax.Array:
        """Pools [B, H, W, C] as config.model.pooling says: "max" or "average"."""
        if kind == "max":
            return self.max_pool(x, window, stride=stride)
        return self.average_pool(x, window, stride=stride)


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation, activation: [B, H, W, C] -> [B, H', W', features].

    `activation` is a name of ACTIVATIONS; a `residual` [B, H', W', features] is added before it. `groups` are
    those of the convolution, C for a depthwise one. `initialization` is the kernel's, by default that of
    `layers`. `into` is that of `ops.conv_norm`.
    """

    layers: Layers
    features: int
    kernel_size: int | Pair
    stride: int = 1
    padding: int | Pair | Literal["same"] = 0
    groups: int = 1
    activation: str = "relu"
    initialization: Initialization | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        residual: jax.Array | None = None,
        into: ops.ChannelsOf | None = None,
    ) -> jax.Array:
        options: dict[str, Any] = {"stride": self.stride, "padding": self.padding, "groups": self.groups}
        if self.initialization is not None:
            options["initialization"] = self.initialization
        conv = self.layers.conv(self.features, self.kernel_size, **options, use_bias=False, name="conv")
        norm, relu = self.layers.norm(name="norm"), self.activation == "relu"
        y = ops.conv_norm(conv, norm, x, train=train, residual=residual, relu=relu, into=into)
        return y if relu else ACTIVATIONS[self.activation](y)


class Network(nn.Module):
    """A convolutional network: [B, H, W, C] -> logits [B, num_classes], which are `head(features(x))`.

    Subclasses define `features`, and in `setup` the `drop` (`nn.Dropout`) and the `classifier` that `head`
    uses. `self.layers()` makes convolutions, norms and dense layers with the settings of the config.
    """

    epsilons: ClassVar[float | Mapping[str, float]] = 1e-5
    """Of the batch norms, in all variants or by variant."""

    num_classes: int
    dropout: float = 0.0
    init_scheme: str = "torch"
    axis_name: str | None = None
    implementation: Implementation = "auto"
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    @property
    def epsilon(self) -> float:
        """Of the batch norms."""
        found = self.epsilons
        return found[getattr(self, "variant", "")] if isinstance(found, Mapping) else found

    def layers(
        self,
        *,
        conv: Initialization | None = None,
        dense: Initialization | None = None,
        conv_bias: bool = False,
    ) -> Layers:
        """Layers with these settings and the network's.

        `conv` and `dense` are the paper's initialization, where `init_scheme` is "torch".
        """
        default = ops.INITIALIZERS[self.init_scheme]
        if self.init_scheme != "torch":
            conv = dense = default
        types = {"dtype": self.dtype, "compute_dtype": self.compute_dtype}
        shared = {**types, "implementation": self.implementation}
        return Layers(
            conv=functools.partial(ops.Conv, initialization=conv or default, use_bias=conv_bias, **shared),
            norm=functools.partial(ops.BatchNorm, epsilon=self.epsilon, axis_name=self.axis_name, **shared),
            dense=functools.partial(ops.Dense, initialization=dense or default, **shared),
            layer_norm=functools.partial(ops.LayerNorm, **types),
            implementation=self.implementation,
            dtype=self.dtype,
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


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": nn.relu,
    "leaky_relu": lambda x: jnp.where(x > 0, x, 0.01 * x),  # jax.nn's has slope 1 at 0, PyTorch's 0.01
    "sigmoid": nn.sigmoid,
    "relu6": lambda x: lax.clamp(x.dtype.type(0), x, x.dtype.type(6)),  # jax.nn's has slope 1/2 at 6
    "silu": nn.silu,
    "gelu": functools.partial(nn.gelu, approximate=False),
    "identity": lambda x: x,
}
"""By name; values and slopes are PyTorch's, at 0 too."""


def adaptive_average_pool(x: jax.Array, size: Pair) -> jax.Array:
    """The mean of each of `size` bins: [B, H, W, C] -> [B, *size, C], as torch.nn.AdaptiveAvgPool2d.

    Bin i of n pixels begins at floor(i * n / size) and ends before ceil((i + 1) * n / size): bins overlap
    where `size` does not divide n, and repeat pixels where n is the smaller.
    """
    for axis, count in zip((1, 2), size, strict=True):
        extent = x.shape[axis]
        bins = [
            lax.slice_in_dim(x, i * extent // count, -(-(i + 1) * extent // count), axis=axis).mean(axis)
            for i in range(count)
        ]
        x = jnp.stack(bins, axis)
    return x


def _overhang(extent: int, side: int, stride: int) -> int:
    """Pixels beyond the far edge that the last window covers in PyTorch's ceil_mode; it begins inside."""
    last = min(-((side - extent) // stride), (extent - 1) // stride)  # -(-a // b) is a / b rounded up
    return max(last * stride + side - extent, 0)
