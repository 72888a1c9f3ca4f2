"""Inception v3 (Szegedy et al. 2015, arXiv:1512.00567), in torchvision's form or TensorFlow's and Keras's."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.models.blocks import ConvNorm, same_padding
from jaxnets.models.outputs import ModelOutput
from jaxnets.ops.implementation import Implementation
from jaxnets.ops.initializers import Initialization

AUXILIARY_WEIGHT = 0.4
"""Of the auxiliary classifier in the loss, slim's; the paper does not print it."""
AUXILIARY_SIZE = 299
"""The least pixels a side that leave the auxiliary classifier's 5x5 convolution a map to see."""
LAST_BLOCKS = ("mixed7a", "mixed7b", "mixed7c")
"""After the auxiliary classifier's tap; the body may end with any of them."""
TORCHVISION, KERAS = "torchvision", "keras"
VARIANTS = (TORCHVISION, KERAS)
"""Average pooling counts its padding in torchvision's; in Keras's, as in TensorFlow's, it does not."""


def initialization(style: str) -> Initialization:
    """As `init_scheme` says: "torch" is torchvision's normal of deviation 0.1 for every kernel.

    It truncates at 2, which is 20 deviations and cuts nothing.
    """
    default = ops.INITIALIZERS[style]
    return default._replace(kernel=ops.initializers.normal(0.1)) if style == "torch" else default


class Block(nn.Module):
    """What the blocks A to E share: [B, H, W, C] -> the branches' channels, beside each other."""

    kernel_init: Any
    axis_name: str | None
    implementation: Implementation
    dtype: Any
    compute_dtype: Any
    variant: str = TORCHVISION

    def average(self, x: jax.Array) -> jax.Array:
        """3x3, of the same size: [B, H, W, C] -> the same."""
        counted = self.variant == TORCHVISION
        padding = ((1, 1), (1, 1))
        return ops.average_pool(
            x, (3, 3), strides=(1, 1), padding=padding, count_include_pad=counted
        )

    def conv(self, name: str, features: int, height: int, width: int, stride: int = 1) -> ConvNorm:
        """A layer of a branch; stride 2 is not padded."""
        return ConvNorm(
            features,
            (height, width),
            strides=(stride, stride),
            padding=same_padding((height, width)) if stride == 1 else ((0, 0), (0, 0)),
            kernel_init=self.kernel_init,
            axis_name=self.axis_name,
            implementation=self.implementation,
            dtype=self.dtype,
            compute_dtype=self.compute_dtype,
            name=name,
        )

    def chain(self, x: jax.Array, branch: str, *layers: tuple[int, ...], train: bool) -> jax.Array:
        """Layers BRANCH_1, BRANCH_2, ..., each (features, height, width[, stride])."""
        for number, layer in enumerate(layers, 1):
            x = self.conv(f"{branch}_{number}", *layer)(x, train=train)
        return x


class InceptionA(Block):
    """Figure 5, its first branch 5x5: [B, H, W, C] -> [B, H, W, 224 + pool_features]."""

    pool_features: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        branches = [
            self.conv("branch1x1", 64, 1, 1)(x, train=train),
            self.chain(x, "branch5x5", (48, 1, 1), (64, 5, 5), train=train),
            self.chain(x, "branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3), train=train),
            self.conv("branch_pool", self.pool_features, 1, 1)(self.average(x), train=train),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionB(Block):
    """The first reduction, figure 10: [B, H, W, C] -> [B, (H - 1) // 2, (W - 1) // 2, 480 + C]."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        branches = [
            self.conv("branch3x3", 384, 3, 3, 2)(x, train=train),
            self.chain(x, "branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3, 2), train=train),
            ops.max_pool(x, (3, 3), strides=(2, 2), implementation=self.implementation),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionC(Block):
    """Figure 6, n = 7, `channels` inside the branches: [B, H, W, C] -> [B, H, W, 768]."""

    channels: int = 128

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        inner, out = self.channels, 192
        down, across = (inner, 7, 1), (inner, 1, 7)
        layers = ((inner, 1, 1), down, across, down, (out, 1, 7))
        branches = [
            self.conv("branch1x1", out, 1, 1)(x, train=train),
            self.chain(x, "branch7x7", (inner, 1, 1), across, (out, 7, 1), train=train),
            self.chain(x, "branch7x7dbl", *layers, train=train),
            self.conv("branch_pool", out, 1, 1)(self.average(x), train=train),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionD(Block):
    """The second reduction: [B, H, W, C] -> [B, (H - 1) // 2, (W - 1) // 2, 512 + C]."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        layers = ((192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3, 2))
        branches = [
            self.chain(x, "branch3x3", (192, 1, 1), (320, 3, 3, 2), train=train),
            self.chain(x, "branch7x7x3", *layers, train=train),
            ops.max_pool(x, (3, 3), strides=(2, 2), implementation=self.implementation),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionE(Block):
    """Figure 7, its filter banks expanded at the ends: [B, H, W, C] -> [B, H, W, 2048]."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        once = self.conv("branch3x3_1", 384, 1, 1)(x, train=train)
        twice = self.chain(x, "branch3x3dbl", (448, 1, 1), (384, 3, 3), train=train)
        branches = [
            self.conv("branch1x1", 320, 1, 1)(x, train=train),
            self.conv("branch3x3_2a", 384, 1, 3)(once, train=train),
            self.conv("branch3x3_2b", 384, 3, 1)(once, train=train),
            self.conv("branch3x3dbl_3a", 384, 1, 3)(twice, train=train),
            self.conv("branch3x3dbl_3b", 384, 3, 1)(twice, train=train),
            self.conv("branch_pool", 192, 1, 1)(self.average(x), train=train),
        ]
        return jnp.concatenate(branches, axis=-1)


class AuxiliaryClassifier(nn.Module):
    """Average pooling, 1x1 and 5x5 convolutions, a dense layer (section 4): logits [B, num_classes].

    H and W are at least 17. Under `init_scheme` "torch" the dense layer's deviation is 0.001.
    """

    num_classes: int
    init_scheme: str
    axis_name: str | None
    implementation: Implementation
    dtype: Any
    compute_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        init = initialization(self.init_scheme)
        dtypes = {"dtype": self.dtype, "compute_dtype": self.compute_dtype}
        shared = {
            "kernel_init": init.kernel,
            "axis_name": self.axis_name,
            "implementation": self.implementation,
            **dtypes,
        }
        x = ops.average_pool(x, (5, 5), strides=(3, 3))
        x = ConvNorm(128, (1, 1), name="conv0", **shared)(x, train=train)
        x = ConvNorm(768, (5, 5), name="conv1", **shared)(x, train=train)
        small = ops.initializers.normal(0.001) if self.init_scheme == "torch" else init.kernel
        classifier = ops.Dense(
            self.num_classes, kernel_init=small, bias_init=init.bias, name="classifier", **dtypes
        )
        return classifier(ops.global_average_pool(x)).astype(self.dtype)


class InceptionV3(nn.Module):
    """Stem, eleven Inception blocks, global average, classifier: [B, H, W, 3] -> [B, num_classes].

    H and W are at least 75. In training on 299 pixels or more, with `auxiliary_heads`, it gives Logits;
    the head is left out of smaller images, and evaluation never runs it. `variant` is the library whose
    form this is, of VARIANTS. `init_scheme` "torch" is torchvision's.
    `truncate_after` is the one of LAST_BLOCKS that the body ends with, where later weights are not to be had.
    """

    num_classes: int
    variant: str = TORCHVISION
    auxiliary_heads: bool = True
    truncate_after: str | None = None
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
        self.conv1a = ConvNorm(32, (3, 3), strides=(2, 2), **shared)
        self.conv2a = ConvNorm(32, (3, 3), **shared)
        self.conv2b = ConvNorm(64, (3, 3), padding=((1, 1), (1, 1)), **shared)
        self.conv3b = ConvNorm(80, (1, 1), **shared)
        self.conv4a = ConvNorm(192, (3, 3), **shared)
        block = {**shared, "variant": self.variant}
        self.blocks = [
            InceptionA(pool_features=32, name="mixed5b", **block),
            InceptionA(pool_features=64, name="mixed5c", **block),
            InceptionA(pool_features=64, name="mixed5d", **block),
            InceptionB(name="mixed6a", **block),
            InceptionC(channels=128, name="mixed6b", **block),
            InceptionC(channels=160, name="mixed6c", **block),
            InceptionC(channels=160, name="mixed6d", **block),
            InceptionC(channels=192, name="mixed6e", **block),
        ]
        kept = (
            LAST_BLOCKS
            if self.truncate_after is None
            else LAST_BLOCKS[: LAST_BLOCKS.index(self.truncate_after) + 1]
        )
        self.last_blocks = [
            (InceptionD if name == LAST_BLOCKS[0] else InceptionE)(name=name, **block)
            for name in kept
        ]
        self.auxiliary = AuxiliaryClassifier(
            self.num_classes, self.init_scheme, self.axis_name, self.implementation, **dtypes
        )
        self.drop = nn.Dropout(self.dropout)
        self.classifier = ops.Dense(
            self.num_classes, kernel_init=init.kernel, bias_init=init.bias, **dtypes
        )

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, h, w, C]: 2048 of mixed7c, 1280 where cut at mixed7a; 8x8 at 299 pixels."""
        return self._backbone(x, train=train)[0]

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, C] -> logits [B, num_classes], in the parameters' dtype."""
        pooled = self.drop(ops.global_average_pool(features), deterministic=not train)
        return self.classifier(pooled).astype(self.dtype)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array | ModelOutput:
        features, tapped = self._backbone(x, train=train)
        logits = self.head(features, train=train)
        has_head = self.auxiliary_heads and min(x.shape[1:3]) >= AUXILIARY_SIZE
        if not has_head or not (train or self.is_initializing()):
            return logits
        other = self.auxiliary(tapped, train=train)
        return ModelOutput(logits, (other,)) if train else logits

    def _backbone(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """The features, and what the auxiliary classifier sees."""
        for conv in (self.conv1a, self.conv2a, self.conv2b):
            x = conv(x, train=train)
        x = ops.max_pool(x, (3, 3), strides=(2, 2), implementation=self.implementation)
        x = self.conv4a(self.conv3b(x, train=train), train=train)
        x = ops.max_pool(x, (3, 3), strides=(2, 2), implementation=self.implementation)
        for block in self.blocks:
            x = block(x, train=train)
        tapped = x
        for block in self.last_blocks:
            x = block(x, train=train)
        return x, tapped
