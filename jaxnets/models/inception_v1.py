"""Inception v1, GoogLeNet (Szegedy et al. 2014, arXiv:1409.4842), with batch normalisation."""

import functools
from collections.abc import Iterator

import flax.linen as nn
import jax

from jaxnets import ops
from jaxnets.models.base import ConvNorm, Entry, Layers, adaptive_average_pool
from jaxnets.models.inception import Branch, NetworkWithAuxiliaryHeads, concatenate

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
POOL_BEFORE = {"4a": 3, "5a": 2}
"""Window of the stride-2 max pooling before a block."""
AUX_HEAD_BLOCKS = ("4a", "4d")
"""Blocks whose outputs are the inputs of the auxiliary classifiers."""
INIT = ops.INITIALIZERS["torch"]._replace(kernel=ops.initializers.normal(0.01))
"""torchvision's; it truncates at 2, which is 200 deviations and has no effect."""


class Inception(nn.Module):
    """Four parallel branches (figure 2b): [B, H, W, C] -> [B, H, W, sum of the four widths].

    `widths` is a row of table 1. torchvision's third branch is 3x3 where the paper has 5x5.
    """

    widths: tuple[int, ...]
    variant: str
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, projection = self.widths
        side = 5 if self.variant == "paper" else 3

        def layer(features: int, side: int, name: str) -> ConvNorm:
            return self.layers.conv_norm(features, side, padding=side // 2, name=name)

        def branches() -> Iterator[Branch]:
            yield layer(conv1x1, 1, "conv1x1"), x
            reduced = layer(reduce3x3, 1, "reduce3x3")(x, train=train)
            yield layer(conv3x3, 3, "conv3x3"), reduced
            reduced = layer(reduce5x5, 1, "reduce5x5")(x, train=train)
            yield layer(conv5x5, side, "conv5x5"), reduced
            pooled = self.layers.max_pool(x, 3, stride=1, padding=1)
            yield layer(projection, 1, "pool_projection"), pooled

        return concatenate(self, branches(), train=train)


class AuxiliaryClassifier(nn.Module):
    """Average pooling to 4x4, 1x1 convolution, two dense layers (section 5): logits [B, num_classes]."""

    num_classes: int
    dropout: float
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.layers.conv_norm(128, 1, name="conv")(adaptive_average_pool(x, (4, 4)), train=train)
        x = nn.relu(self.layers.dense(1024, name="dense")(x.reshape(x.shape[0], -1)))
        x = nn.Dropout(self.dropout, name="drop")(x, deterministic=not train)
        logits = self.layers.dense(self.num_classes, name="classifier")(x)
        return logits.astype(self.layers.dtype)


class InceptionV1(NetworkWithAuxiliaryHeads):
    """Stem, nine Inception blocks, global average, classifier: [B, H, W, 3] -> [B, num_classes].

    H and W are at least 15. `variant` "torchvision" has 3x3 where the paper has 5x5.

    References:
        Szegedy et al. 2014, arXiv:1409.4842.
    """

    epsilons = 1e-3

    variant: str = VARIANTS[0]
    auxiliary_dropout: float = 0.7

    def setup(self) -> None:
        layers = self.layers(conv=INIT, dense=INIT)
        self.conv1 = layers.conv_norm(64, 7, stride=2, padding=3)
        self.conv2_reduce = layers.conv_norm(64, 1)
        self.conv2 = layers.conv_norm(192, 3, padding=1)
        self.blocks = {
            place: Inception(widths, self.variant, layers, name=f"inception{place}")
            for place, widths in CHANNELS.items()
        }
        self.heads = [
            AuxiliaryClassifier(self.num_classes, self.auxiliary_dropout, layers, name=f"auxiliary{number}")
            for number in range(1, len(AUX_HEAD_BLOCKS) + 1)
        ]
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def backbone(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, list[jax.Array]]:
        """The output [B, h, w, 1024] of block 5b, about 1/32 of the size, and those of AUX_HEAD_BLOCKS."""
        pool = functools.partial(self.layers().max_pool, stride=2, ceil_mode=True)
        x = pool(self.conv1(x, train=train), window=3)
        x = self.conv2(self.conv2_reduce(x, train=train), train=train)
        x = pool(x, window=3)
        auxiliary_inputs = []
        for place, block in self.blocks.items():
            if place in POOL_BEFORE:
                x = pool(x, window=POOL_BEFORE[place])
            x = block(x, train=train)
            if place in AUX_HEAD_BLOCKS:
                auxiliary_inputs.append(x)
        return x, auxiliary_inputs


ENTRY = Entry(
    "Inception v1",
    InceptionV1,
    fields=("variant", "auxiliary_heads", "auxiliary_dropout"),
    smallest=15,
    variants=VARIANTS,
    auxiliary_weight=0.3,  # section 5
    averages=True,
)
