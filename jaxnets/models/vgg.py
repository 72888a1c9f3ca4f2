"""VGG with 16 layers (Simonyan and Zisserman 2014, arXiv:1409.1556), with or without batch normalisation."""

import functools

import flax.linen as nn
import jax

from jaxnets import ops
from jaxnets.models.base import Entry, Network, adaptive_average_pool
from jaxnets.ops.initializers import KAIMING, Initialization

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions before each pooling (table 1, column D)."""
DENSE_INIT = Initialization(ops.initializers.normal(0.01), ops.initializers.zero_bias)
"""torchvision's."""


class VGG(Network):
    """Thirteen 3x3 convolutions in five stages, and three dense layers: [B, H, W, 3] -> [B, num_classes].

    138,357,544 parameters with 1000 classes, and 8,448 more with `batch_norm` after each convolution. H and W
    are at least 32, so that the last of five halvings has a pixel left. The features are averaged to 7x7, as
    in torchvision; at 224 pixels they have this size, and the network is also Keras's. `dropout` follows both
    hidden dense layers; the paper's is 0.5.

    References:
        Simonyan and Zisserman 2014, arXiv:1409.1556.
    """

    batch_norm: bool = False

    def setup(self) -> None:
        layers = self.layers(conv=KAIMING, dense=DENSE_INIT, conv_bias=True)
        places = [
            (f"stage{stage}_{{}}{number}", features)
            for stage, widths in enumerate(STAGES, 1)
            for number, features in enumerate(widths, 1)
        ]
        self.convs = [
            layers.conv(features, 3, padding=1, name=name.format("conv")) for name, features in places
        ]
        self.norms = [
            layers.norm(name=name.format("norm")) if self.batch_norm else None for name, _ in places
        ]
        self.dense1 = layers.dense(4096)
        self.drop1 = nn.Dropout(self.dropout)
        self.dense2 = layers.dense(4096)
        self.drop2 = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, H // 32, W // 32, 512], after the last pooling."""
        layers = iter(zip(self.convs, self.norms, strict=True))
        for widths in STAGES:
            for conv, norm in (next(layers) for _ in widths):
                x = ops.conv_norm(conv, norm, x, train=train, relu=True)
            x = self.layers().max_pool(x, 2, stride=2)
        return x

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, 512] -> logits [B, num_classes], in the parameters' dtype."""
        x = adaptive_average_pool(features, (7, 7)).reshape(features.shape[0], -1)
        x = self.drop1(nn.relu(self.dense1(x)), deterministic=not train)
        x = self.drop2(nn.relu(self.dense2(x)), deterministic=not train)
        return self.classifier(x).astype(self.dtype)


_make = functools.partial(Entry, factory=VGG, smallest=32)
VGG16, VGG16_BN = _make("VGG-16"), _make("VGG-16, batch norm", settings={"batch_norm": True})
