"""Inception-ResNet v2 (Szegedy et al. 2016, arXiv:1602.07261), in the form that its authors published.

Their code, and so timm and Keras, differs from the paper's figures: a plainer stem with one more Inception
block (`mixed5b`), twice as many residual blocks, one scale for each kind of block, and a last block
without ReLU.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.models.base import Entry, Layers, Network, same

EPSILON = 1e-3
"""Epsilon of the batch normalisations."""
SCALE_A, SCALE_B, SCALE_C = 0.17, 0.10, 0.20
"""Factors of the residuals (section 3.3)."""


class Layer(NamedTuple):
    """A convolution of a branch, with padding that keeps the size unless it has a stride."""

    features: int
    kernel_size: tuple[int, int]
    stride: int = 1


Branches = tuple[tuple[Layer, ...], ...]

MIXED_5B: Branches = (
    (Layer(96, (1, 1)),),
    (Layer(48, (1, 1)), Layer(64, (5, 5))),
    (Layer(64, (1, 1)), Layer(96, (3, 3)), Layer(96, (3, 3))),
)
"""The other branch is an average pooling with a 1x1 convolution of 64 channels."""
INCEPTION_RESNET_A: Branches = (  # figure 16
    (Layer(32, (1, 1)),),
    (Layer(32, (1, 1)), Layer(32, (3, 3))),
    (Layer(32, (1, 1)), Layer(48, (3, 3)), Layer(64, (3, 3))),
)
REDUCTION_A: Branches = (  # figure 7: k = 256, l = 256, m = 384, n = 384
    (Layer(384, (3, 3), 2),),
    (Layer(256, (1, 1)), Layer(256, (3, 3)), Layer(384, (3, 3), 2)),
)
INCEPTION_RESNET_B: Branches = (  # figure 17
    (Layer(192, (1, 1)),),
    (Layer(128, (1, 1)), Layer(160, (1, 7)), Layer(192, (7, 1))),
)
REDUCTION_B: Branches = (  # figure 18
    (Layer(256, (1, 1)), Layer(384, (3, 3), 2)),
    (Layer(256, (1, 1)), Layer(288, (3, 3), 2)),
    (Layer(256, (1, 1)), Layer(288, (3, 3)), Layer(320, (3, 3), 2)),
)
INCEPTION_RESNET_C: Branches = (  # figure 19
    (Layer(192, (1, 1)),),
    (Layer(192, (1, 1)), Layer(224, (1, 3)), Layer(256, (3, 1))),
)


class Branched(nn.Module):
    """What the blocks share: parallel branches of convolutions branch0_conv0, branch1_conv0, ..."""

    branches: Branches
    layers: Layers

    def conv(self, x: jax.Array, layer: Layer, name: str, *, train: bool) -> jax.Array:
        """Convolution, norm and ReLU."""
        features, size, stride = layer
        padding = same(size) if stride == 1 else 0
        conv = self.layers.conv_norm(features, size, stride=stride, padding=padding, name=name)
        return conv(x, train=train)

    def outputs(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """[B, H, W, C] -> the output [B, H', W', features] of each branch."""
        found = []
        for number, branch in enumerate(self.branches):
            y = x
            for place, layer in enumerate(branch):
                y = self.conv(y, layer, f"branch{number}_conv{place}", train=train)
            found.append(y)
        return found


class Mixed5b(Branched):
    """The branches, and a 3x3 average without its padding and a 1x1: [B, H, W, C] -> [B, H, W, 320]."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        pooled = ops.average_pool(
            x, (3, 3), strides=(1, 1), padding=((1, 1), (1, 1)), count_include_pad=False
        )
        pooled = self.conv(pooled, Layer(64, (1, 1)), "pooled_conv", train=train)
        return jnp.concatenate([*self.outputs(x, train=train), pooled], axis=-1)


class Reduction(Branched):
    """The branches and a 3x3 maximum with stride 2: [B, H, W, C] -> [B, (H - 1) // 2, (W - 1) // 2, C']."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        pooled = self.layers.max_pool(x, 3, stride=2)
        return jnp.concatenate([*self.outputs(x, train=train), pooled], axis=-1)


class Residual(Branched):
    """x + scale * projection(branches), then ReLU if `relu`: [B, H, W, C] -> [B, H, W, C]."""

    scale: float
    relu: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        projection = self.layers.conv(x.shape[-1], 1, bias=True, name="projection")
        residual = projection(jnp.concatenate(self.outputs(x, train=train), axis=-1))
        y = x + self.scale * residual
        return nn.relu(y) if self.relu else y


class InceptionResNetV2(Network):
    """Stem, Inception-ResNet A, B and C with reductions between, average, classifier: [B, H, W, 3] -> logits.

    `repeats` (10, 20, 10) of the blocks A, B and C is the network of timm and Keras: 55,843,464 parameters
    for 1000 classes. H and W are at least 75, so that the last reduction has a pixel left; 299 as
    published. With `init_scheme="torch"` all weights have PyTorch's defaults, as timm's; with "flax" Flax's.
    """

    repeats: tuple[int, int, int] = (10, 20, 10)

    def setup(self) -> None:
        layers = self.layers(epsilon=EPSILON)
        self.stem = [
            layers.conv_norm(32, 3, stride=2, name="conv1a"),
            layers.conv_norm(32, 3, name="conv2a"),
            layers.conv_norm(64, 3, padding=1, name="conv2b"),
            layers.conv_norm(80, 1, name="conv3b"),
            layers.conv_norm(192, 3, name="conv4a"),
        ]
        self.mixed5b = Mixed5b(MIXED_5B, layers)
        count_a, count_b, count_c = self.repeats
        self.blocks = [
            *(
                Residual(INCEPTION_RESNET_A, layers, SCALE_A, name=f"inception_resnet_a{number}")
                for number in range(1, count_a + 1)
            ),
            Reduction(REDUCTION_A, layers, name="reduction_a"),
            *(
                Residual(INCEPTION_RESNET_B, layers, SCALE_B, name=f"inception_resnet_b{number}")
                for number in range(1, count_b + 1)
            ),
            Reduction(REDUCTION_B, layers, name="reduction_b"),
            *(
                Residual(INCEPTION_RESNET_C, layers, SCALE_C, name=f"inception_resnet_c{number}")
                for number in range(1, count_c)
            ),
            Residual(INCEPTION_RESNET_C, layers, 1.0, relu=False, name=f"inception_resnet_c{count_c}"),
        ]
        self.conv7b = layers.conv_norm(1536, 1)
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, h, w, 1536], after the last 1x1 convolution; 299 px give 8x8."""
        max_pool = self.layers().max_pool
        conv1a, conv2a, conv2b, conv3b, conv4a = self.stem
        for layer in (conv1a, conv2a, conv2b):
            x = layer(x, train=train)
        x = max_pool(x, 3, stride=2)
        x = conv4a(conv3b(x, train=train), train=train)
        x = max_pool(x, 3, stride=2)
        x = self.mixed5b(x, train=train)
        for block in self.blocks:
            x = block(x, train=train)
        return self.conv7b(x, train=train)


ENTRY = Entry("Inception-ResNet v2", InceptionResNetV2, smallest=75, averages=True)
