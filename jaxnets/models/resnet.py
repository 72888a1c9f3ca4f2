"""ResNet (He et al. 2015, arXiv:1512.03385), in torchvision's form or Keras's."""

import functools
from typing import ClassVar

import flax.linen as nn
import jax

from jaxnets import ops
from jaxnets.models.base import Entry, Layers, Network, Variant
from jaxnets.ops.initializers import GLOROT, KAIMING

EXPANSION = 4
"""Output channels of a bottleneck block per channel of its 3x3 convolution."""

VARIANTS = {
    "torchvision": Variant(1e-5, conv=KAIMING, dense=ops.INITIALIZERS["torch"]),
    "keras": Variant(1.001e-5, conv=GLOROT, dense=GLOROT, conv_bias=True, stride_on_3x3=False),
}
"""torchvision's is "v1.5"; the paper ("v1") and Keras have the stride on the first 1x1."""


def shortcut(
    layers: Layers, x: jax.Array, y: jax.Array, channels: int, stride: int, *, train: bool
) -> jax.Array:
    """x, projected to `channels` if its shape differs from that of the block's sum (section 3.3, option B).

    y [B, H / stride, W / stride, C] is the output of any layer after the stride.
    """
    if x.shape[:-1] == y.shape[:-1] and x.shape[-1] == channels:
        return x
    projection = layers.conv(channels, 1, stride=stride, name="projection")
    return ops.conv_norm(projection, layers.norm(name="projection_norm"), x, train=train)


class BasicBlock(nn.Module):
    """3x3, 3x3, added to the shortcut: [B, H, W, C] -> [B, H/s, W/s, width].

    ResNet-18 and ResNet-34 have it (table 1), in torchvision's form alone: `stride_on_3x3` is True.
    """

    width: int
    stride: int
    stride_on_3x3: bool
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        conv, norm = self.layers.conv, self.layers.norm
        conv_norm = functools.partial(ops.conv_norm, train=train, relu=True)
        conv1 = conv(self.width, 3, stride=self.stride, padding=1, name="conv1")
        y = conv_norm(conv1, norm(name="norm1"), x)
        x = shortcut(self.layers, x, y, self.width, self.stride, train=train)
        conv2 = conv(self.width, 3, padding=1, name="conv2")
        return conv_norm(conv2, norm(name="norm2"), y, residual=x)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, added to the shortcut: [B, H, W, C] -> [B, H/s, W/s, 4 * width].

    The stride is on the 3x3 or the first 1x1.
    """

    width: int
    stride: int
    stride_on_3x3: bool
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        conv, norm = self.layers.conv, self.layers.norm
        first, second = (1, self.stride) if self.stride_on_3x3 else (self.stride, 1)
        channels, conv_norm = EXPANSION * self.width, functools.partial(ops.conv_norm, train=train, relu=True)

        y = conv_norm(conv(self.width, 1, stride=first, name="conv1"), norm(name="norm1"), x)
        conv2 = conv(self.width, 3, stride=second, padding=1, name="conv2")
        y = conv_norm(conv2, norm(name="norm2"), y)
        x = shortcut(self.layers, x, y, channels, self.stride, train=train)
        return conv_norm(conv(channels, 1, name="conv3"), norm(name="norm3"), y, residual=x)


class ResNet(Network):
    """Stem, stages of blocks, global average, classifier: [B, H, W, 3] -> [B, num_classes].

    H and W are at least 32, so that the last of five halvings has a pixel left. `stage_sizes` (3, 4, 6, 3)
    with `width` 64 is ResNet-50, or with `block` BasicBlock ResNet-34 (table 1). `variant` selects the form
    and initialisation of a library, from VARIANTS; the running statistics are updated as PyTorch's in both
    (Keras: momentum 0.01, biased variance).

    References:
        He et al. 2015, arXiv:1512.03385.
    """

    epsilons: ClassVar = {name: variant.epsilon for name, variant in VARIANTS.items()}

    block: type[BasicBlock] | type[Bottleneck] = Bottleneck
    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    variant: str = "torchvision"

    def setup(self) -> None:
        variant = VARIANTS[self.variant]
        layers = self.layers(conv=variant.conv, dense=variant.dense, conv_bias=variant.conv_bias)
        self.conv1 = layers.conv(self.width, 7, stride=2, padding=3)
        self.norm1 = layers.norm()
        self.blocks = [
            self.block(
                width=self.width * 2**stage,
                stride=2 if stage > 0 and block == 0 else 1,
                stride_on_3x3=variant.stride_on_3x3,
                layers=layers,
                name=f"stage{stage + 1}_block{block + 1}",
            )
            for stage, size in enumerate(self.stage_sizes)
            for block in range(size)
        ]
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, ceil(H / 32), ceil(W / 32), C], after the last ReLU.

        C is 32 * width with bottleneck blocks, 8 * width with basic ones.
        """
        x = ops.conv_norm(self.conv1, self.norm1, x, train=train, relu=True)
        x = self.layers().max_pool(x, 3, stride=2, padding=1)
        for block in self.blocks:
            x = block(x, train=train)
        return x


_make = functools.partial(Entry, factory=ResNet, smallest=32, averages=True)
RESNET18 = _make("ResNet-18", settings={"block": BasicBlock, "stage_sizes": (2, 2, 2, 2)})
RESNET34 = _make("ResNet-34", settings={"block": BasicBlock})
ENTRY = _make("ResNet-50", fields=("stage_sizes", "width", "variant"), variants=tuple(VARIANTS))
_make = functools.partial(_make, fields=("variant",), variants=tuple(VARIANTS))
RESNET101 = _make("ResNet-101", settings={"stage_sizes": (3, 4, 23, 3)})
RESNET152 = _make("ResNet-152", settings={"stage_sizes": (3, 8, 36, 3)})
