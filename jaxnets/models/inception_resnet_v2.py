"""Inception-ResNet v2 (Szegedy et al. 2016, arXiv:1602.07261), in the form that its authors published.

Their code, and so timm and Keras, differs from the paper's figures: a plainer stem with one more Inception
block (`mixed5b`), twice as many residual blocks, one scale for each kind of block, and a last block
without ReLU.
"""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.models.base import Entry, Network
from jaxnets.models.inception import (
    Branched,
    Branches,
    BranchLayer,
    apply_inception_stem,
    chain,
    concatenate,
    inception_stem,
)

SCALE_A, SCALE_B, SCALE_C = 0.17, 0.10, 0.20
"""Factors of the residuals (section 3.3)."""


def branches(*sizes: tuple[tuple[int, ...], ...]) -> Branches:
    """Branches of layers branch0_conv0, branch1_conv0, ..., each (features, height, width[, stride])."""
    return tuple(chain(f"branch{number}_conv", *branch, first=0) for number, branch in enumerate(sizes))


MIXED_5B = branches(((96, 1, 1),), ((48, 1, 1), (64, 5, 5)), ((64, 1, 1), (96, 3, 3), (96, 3, 3)))
"""The other branch is an average pooling with a 1x1 convolution of 64 channels."""
INCEPTION_RESNET_A = branches(  # figure 16
    ((32, 1, 1),), ((32, 1, 1), (32, 3, 3)), ((32, 1, 1), (48, 3, 3), (64, 3, 3))
)
REDUCTION_A = branches(  # figure 7: k = 256, l = 256, m = 384, n = 384
    ((384, 3, 3, 2),), ((256, 1, 1), (256, 3, 3), (384, 3, 3, 2))
)
INCEPTION_RESNET_B = branches(  # figure 17
    ((192, 1, 1),), ((128, 1, 1), (160, 1, 7), (192, 7, 1))
)
REDUCTION_B = branches(  # figure 18
    ((256, 1, 1), (384, 3, 3, 2)), ((256, 1, 1), (288, 3, 3, 2)), ((256, 1, 1), (288, 3, 3), (320, 3, 3, 2))
)
INCEPTION_RESNET_C = branches(  # figure 19
    ((192, 1, 1),), ((192, 1, 1), (224, 1, 3), (256, 3, 1))
)


class Mixed5b(Branched):
    """The branches, and a 3x3 average without its padding and a 1x1: [B, H, W, C] -> [B, H, W, 320]."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        pooled = self.layers.average_pool(x, 3, stride=1, padding=1, count_include_pad=False)
        projection = self.layer(BranchLayer("pooled_conv", 64, (1, 1)))
        branches = itertools.chain(self.applied(x, train=train), [(projection, pooled)])
        return concatenate(self, branches, train=train)


class Reduction(Branched):
    """The branches and a 3x3 maximum with stride 2: [B, H, W, C] -> [B, (H - 1) // 2, (W - 1) // 2, C']."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        outputs = [layer(y, train=train) for layer, y in self.applied(x, train=train)]
        return jnp.concatenate([*outputs, self.layers.max_pool(x, 3, stride=2)], axis=-1)


class Residual(Branched):
    """x + scale * projection(branches), then ReLU if `relu`: [B, H, W, C] -> [B, H, W, C]."""

    scale: float
    relu: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        projection = self.layers.conv(x.shape[-1], 1, use_bias=True, name="projection")
        y = concatenate(self, self.applied(x, train=train), train=train)
        return ops.conv_norm(projection, None, y, train=train, scale=self.scale, residual=x, relu=self.relu)


class InceptionResNetV2(Network):
    """Stem, Inception-ResNet A, B and C with reductions between, average, classifier: [B, H, W, 3] -> logits.

    `repeats` (10, 20, 10) of the blocks A, B and C is the network of timm and Keras: 55,843,464 parameters
    for 1000 classes. H and W are at least 75, so that the last reduction has a pixel left; 299 in the paper.

    References:
        Szegedy et al. 2016, arXiv:1602.07261.
    """

    epsilons = 1e-3

    repeats: tuple[int, int, int] = (10, 20, 10)

    def setup(self) -> None:
        layers = self.layers()
        self.stem = inception_stem(layers)
        self.mixed5b = Mixed5b(MIXED_5B, layers)
        count_a, count_b, count_c = self.repeats

        def residuals(kind: str, branches: Branches, scale: float, count: int) -> list[Residual]:
            names = (f"inception_resnet_{kind}{number}" for number in range(1, count + 1))
            return [Residual(branches, layers, scale, name=name) for name in names]

        self.blocks = [
            *residuals("a", INCEPTION_RESNET_A, SCALE_A, count_a),
            Reduction(REDUCTION_A, layers, name="reduction_a"),
            *residuals("b", INCEPTION_RESNET_B, SCALE_B, count_b),
            Reduction(REDUCTION_B, layers, name="reduction_b"),
            *residuals("c", INCEPTION_RESNET_C, SCALE_C, count_c - 1),
            Residual(INCEPTION_RESNET_C, layers, 1.0, relu=False, name=f"inception_resnet_c{count_c}"),
        ]
        self.conv7b = layers.conv_norm(1536, 1)
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, h, w, 1536], after the last 1x1 convolution; 299 px give 8x8."""
        x = apply_inception_stem(self.stem, x, self.layers(), train=train)
        x = self.mixed5b(x, train=train)
        for block in self.blocks:
            x = block(x, train=train)
        return self.conv7b(x, train=train)


ENTRY = Entry("Inception-ResNet v2", InceptionResNetV2, smallest=75, native_size=299, averages=True)
