"""DenseNet-BC (Huang et al. 2016, arXiv:1608.06993): every layer takes all earlier ones of its block."""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.ops.implementation import Implementation

BOTTLENECK = 4
"""Channels of a layer's 1x1 convolution per channel that the layer adds (section 3, "Bottleneck layers")."""

TORCHVISION, KERAS = "torchvision", "keras"
EPSILONS: Mapping[str, float] = MappingProxyType({TORCHVISION: 1e-5, KERAS: 1.001e-5})
"""Of the batch normalisations, by variant."""

kaiming_normal_fan_in = ops.initializers.scaled("normal", 2.0, "fan_in")
"""Normal with variance 2/fan_in, which torchvision's DenseNets use for convolutions."""


class DenseLayer(nn.Module):
    """Norm, ReLU, 1x1; norm, ReLU, 3x3; dropout: [B, H, W, C] -> the new [B, H, W, growth_rate]."""

    growth_rate: int
    dropout: float
    kernel_init: Any
    epsilon: float
    axis_name: str | None
    implementation: Implementation
    dtype: Any
    compute_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        shared = {
            "dtype": self.dtype,
            "compute_dtype": self.compute_dtype,
            "implementation": self.implementation,
        }
        conv = functools.partial(ops.Conv, kernel_init=self.kernel_init, **shared)
        norm = functools.partial(
            ops.BatchNorm, epsilon=self.epsilon, axis_name=self.axis_name, **shared
        )

        y = nn.relu(norm(name="norm1")(x, train=train))
        y = conv(BOTTLENECK * self.growth_rate, (1, 1), name="conv1")(y)
        y = nn.relu(norm(name="norm2")(y, train=train))
        y = conv(self.growth_rate, (3, 3), padding=((1, 1), (1, 1)), name="conv2")(y)
        return nn.Dropout(self.dropout)(y, deterministic=not train)


class DenseBlock(nn.Module):
    """`layers` dense layers, each on all before it: [B, H, W, C] -> [B, H, W, C + layers * growth_rate]."""

    layers: int
    growth_rate: int
    dropout: float
    kernel_init: Any
    epsilon: float
    axis_name: str | None
    implementation: Implementation
    dtype: Any
    compute_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for number in range(1, self.layers + 1):
            layer = DenseLayer(
                growth_rate=self.growth_rate,
                dropout=self.dropout,
                kernel_init=self.kernel_init,
                epsilon=self.epsilon,
                axis_name=self.axis_name,
                implementation=self.implementation,
                dtype=self.dtype,
                compute_dtype=self.compute_dtype,
                name=f"layer{number}",
            )
            x = jnp.concatenate([x, layer(x, train=train)], axis=-1)
        return x


class Transition(nn.Module):
    """Norm, ReLU, 1x1, 2x2 average: [B, H, W, C] -> [B, H // 2, W // 2, C // 2] ("Compression")."""

    kernel_init: Any
    epsilon: float
    axis_name: str | None
    implementation: Implementation
    dtype: Any
    compute_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        shared = {
            "dtype": self.dtype,
            "compute_dtype": self.compute_dtype,
            "implementation": self.implementation,
        }
        norm = ops.BatchNorm(epsilon=self.epsilon, axis_name=self.axis_name, name="norm", **shared)
        y = nn.relu(norm(x, train=train))
        conv = ops.Conv(
            x.shape[-1] // 2, (1, 1), kernel_init=self.kernel_init, name="conv", **shared
        )
        return ops.average_pool(conv(y), (2, 2), strides=(2, 2))


class DenseNet(nn.Module):
    """Stem, dense blocks with transitions between, global average, classifier: [B, H, W, 3] -> logits.

    `block_sizes` (6, 12, 24, 16) with `growth_rate` 32 is DenseNet-121, of table 1 and torchvision:
    7,978,856 parameters for 1000 classes. H and W are at least 29, so that the last of five halvings has a
    pixel left. `variant` is the library whose epsilon it has, of EPSILONS. `layer_dropout` follows each
    dense layer, `dropout` precedes the classifier. Under `init="torch"` convolutions are Kaiming normal
    over fan_in and the classifier's bias 0, as torchvision's; Flax's defaults otherwise.
    """

    num_classes: int
    variant: str = TORCHVISION
    block_sizes: tuple[int, ...] = (6, 12, 24, 16)
    growth_rate: int = 32
    layer_dropout: float = 0.0
    dropout: float = 0.0
    init_scheme: str = "torch"
    axis_name: str | None = None
    implementation: Implementation = "auto"
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    def setup(self) -> None:
        default = ops.INITIALIZERS[self.init_scheme]
        kernel_init = kaiming_normal_fan_in if self.init_scheme == "torch" else default.kernel
        dtypes = {"dtype": self.dtype, "compute_dtype": self.compute_dtype}
        normal = {
            "epsilon": EPSILONS[self.variant],
            "axis_name": self.axis_name,
            "implementation": self.implementation,
            **dtypes,
        }
        shared = {"kernel_init": kernel_init, **normal}
        self.conv0 = ops.Conv(
            2 * self.growth_rate,
            (7, 7),
            kernel_init=kernel_init,
            strides=(2, 2),
            padding=((3, 3), (3, 3)),
            implementation=self.implementation,
            **dtypes,
        )
        self.norm0 = ops.BatchNorm(**normal)
        self.dense_blocks = [
            DenseBlock(
                layers=size,
                growth_rate=self.growth_rate,
                dropout=self.layer_dropout,
                name=f"dense_block{number}",
                **shared,
            )
            for number, size in enumerate(self.block_sizes, 1)
        ]
        self.transitions = [
            Transition(name=f"transition{number}", **shared)
            for number in range(1, len(self.block_sizes))
        ]
        self.norm5 = ops.BatchNorm(**normal)
        self.drop = nn.Dropout(self.dropout)
        self.classifier = ops.Dense(
            self.num_classes,
            kernel_init=default.kernel,
            bias_init=ops.initializers.zero_bias,
            **dtypes,
        )

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, h, w, C], after the last norm and its ReLU; 224 px give 7x7x1024."""
        x = nn.relu(self.norm0(self.conv0(x), train=train))
        x = ops.max_pool(
            x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)), implementation=self.implementation
        )
        for block, transition in zip(self.dense_blocks, (*self.transitions, None), strict=True):
            x = block(x, train=train)
            if transition is not None:
                x = transition(x, train=train)
        return nn.relu(self.norm5(x, train=train))

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, C] -> logits [B, num_classes], in the parameters' dtype."""
        pooled = self.drop(ops.global_average_pool(features), deterministic=not train)
        return self.classifier(pooled).astype(self.dtype)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        return self.head(self.features(x, train=train), train=train)
