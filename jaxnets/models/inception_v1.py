"""Inception v1, GoogLeNet (Szegedy et al. 2014, arXiv:1409.4842), with batch normalisation."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.models.blocks import ConvNorm, adaptive_average_pool, max_pool_ceil, same_padding
from jaxnets.models.outputs import ModelOutput
from jaxnets.ops.implementation import Implementation
from jaxnets.ops.initializers import Initialization
from jaxnets.ops.windows import Pair

AUXILIARY_WEIGHT = 0.3
"""Of each auxiliary classifier in the loss (section 5)."""
AUXILIARY_DROPOUT = 0.7
VARIANTS = ("torchvision", "paper")

CHANNELS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj."""
POOL_BEFORE = {"4a": (3, 3), "5a": (2, 2)}
"""The window of the max pooling, of stride 2, before a block."""
AUX_HEAD_BLOCKS = ("4a", "4d")
"""The blocks whose outputs the auxiliary classifiers see."""


def initialization(style: str) -> Initialization:
    """As `init_scheme` says: "torch" is torchvision's normal of deviation 0.01 for every kernel.

    It truncates at 2, which is 200 deviations and cuts nothing.
    """
    default = ops.INITIALIZERS[style]
    return default._replace(kernel=ops.initializers.normal(0.01)) if style == "torch" else default


class Inception(nn.Module):
    """Four branches beside each other (figure 2b): [B, H, W, C] -> [B, H, W, sum of the four widths].

    `widths` is a row of table 1. torchvision's third branch is 3x3 where the paper has 5x5.
    """

    widths: tuple[int, ...]
    variant: str
    kernel_init: Any
    axis_name: str | None
    implementation: Implementation
    dtype: Any
    compute_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, projection = self.widths

        def conv(y: jax.Array, features: int, side: int, name: str) -> jax.Array:
            return ConvNorm(
                features,
                (side, side),
                padding=same_padding((side, side)),
                kernel_init=self.kernel_init,
                axis_name=self.axis_name,
                implementation=self.implementation,
                dtype=self.dtype,
                compute_dtype=self.compute_dtype,
                name=name,
            )(y, train=train)

        pooled = ops.max_pool(
            x, (3, 3), strides=(1, 1), padding=((1, 1), (1, 1)), implementation=self.implementation
        )
        side = 5 if self.variant == "paper" else 3
        branches = [
            conv(x, conv1x1, 1, "conv1x1"),
            conv(conv(x, reduce3x3, 1, "reduce3x3"), conv3x3, 3, "conv3x3"),
            conv(conv(x, reduce5x5, 1, "reduce5x5"), conv5x5, side, "conv5x5"),
            conv(pooled, projection, 1, "pool_projection"),
        ]
        return jnp.concatenate(branches, axis=-1)


class AuxiliaryClassifier(nn.Module):
    """Average pooling to 4x4, 1x1 convolution, two dense layers (section 5): logits [B, num_classes]."""

    num_classes: int
    dropout: float
    init_scheme: str
    axis_name: str | None
    implementation: Implementation
    dtype: Any
    compute_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        init = initialization(self.init_scheme)
        dtypes = {"dtype": self.dtype, "compute_dtype": self.compute_dtype}
        dense = functools.partial(ops.Dense, kernel_init=init.kernel, bias_init=init.bias, **dtypes)
        x = ConvNorm(
            128,
            (1, 1),
            kernel_init=init.kernel,
            axis_name=self.axis_name,
            implementation=self.implementation,
            name="conv",
            **dtypes,
        )(adaptive_average_pool(x, (4, 4)), train=train)
        x = nn.relu(dense(1024, name="dense")(x.reshape(x.shape[0], -1)))
        x = nn.Dropout(self.dropout, name="drop")(x, deterministic=not train)
        return dense(self.num_classes, name="classifier")(x).astype(self.dtype)


class InceptionV1(nn.Module):
    """Stem, nine Inception blocks, global average, classifier: [B, H, W, 3] -> [B, num_classes].

    H and W are at least 15. `variant` "torchvision" has 3x3 where the paper has 5x5. In training, with
    `auxiliary_heads`, it gives Logits; evaluation never runs them. `init_scheme` "torch" is torchvision's.
    """

    num_classes: int
    variant: str = "torchvision"
    auxiliary_heads: bool = True
    auxiliary_dropout: float = AUXILIARY_DROPOUT
    dropout: float = 0.0
    init_scheme: str = "torch"
    axis_name: str | None = None
    implementation: Implementation = "auto"
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    def setup(self) -> None:
        init = initialization(self.init_scheme)
        dtypes = {"dtype": self.dtype, "compute_dtype": self.compute_dtype}
        shared = {
            "kernel_init": init.kernel,
            "axis_name": self.axis_name,
            "implementation": self.implementation,
            **dtypes,
        }
        self.conv1 = ConvNorm(64, (7, 7), strides=(2, 2), padding=((3, 3), (3, 3)), **shared)
        self.conv2_reduce = ConvNorm(64, (1, 1), **shared)
        self.conv2 = ConvNorm(192, (3, 3), padding=((1, 1), (1, 1)), **shared)
        self.blocks = {
            place: Inception(widths, self.variant, name=f"inception{place}", **shared)
            for place, widths in CHANNELS.items()
        }
        if self.auxiliary_heads:
            self.heads = [
                AuxiliaryClassifier(
                    self.num_classes,
                    self.auxiliary_dropout,
                    self.init_scheme,
                    axis_name=self.axis_name,
                    implementation=self.implementation,
                    name=f"auxiliary{number}",
                    **dtypes,
                )
                for number in range(1, len(AUX_HEAD_BLOCKS) + 1)
            ]
        self.drop = nn.Dropout(self.dropout)
        self.classifier = ops.Dense(
            self.num_classes, kernel_init=init.kernel, bias_init=init.bias, **dtypes
        )

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, h, w, 1024], the output of block 5b, about 1/32 of the size."""
        return self._backbone(x, train=train)[0]

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, 1024] -> logits [B, num_classes], in the parameters' dtype."""
        pooled = self.drop(ops.global_average_pool(features), deterministic=not train)
        return self.classifier(pooled).astype(self.dtype)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array | ModelOutput:
        features, tapped = self._backbone(x, train=train)
        logits = self.head(features, train=train)
        if not self.auxiliary_heads or not (train or self.is_initializing()):
            return logits
        others = tuple(head(y, train=train) for head, y in zip(self.heads, tapped, strict=True))
        return ModelOutput(logits, others) if train else logits

    def _backbone(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, list[jax.Array]]:
        """The features, and what the auxiliary classifiers see."""
        x = self._pool(self.conv1(x, train=train), (3, 3))
        x = self.conv2(self.conv2_reduce(x, train=train), train=train)
        x = self._pool(x, (3, 3))
        tapped = []
        for place, block in self.blocks.items():
            if place in POOL_BEFORE:
                x = self._pool(x, POOL_BEFORE[place])
            x = block(x, train=train)
            if place in AUX_HEAD_BLOCKS:
                tapped.append(x)
        return x, tapped

    def _pool(self, x: jax.Array, window: Pair) -> jax.Array:
        return max_pool_ceil(x, window, strides=(2, 2), implementation=self.implementation)
