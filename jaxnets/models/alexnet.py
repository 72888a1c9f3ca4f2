"""AlexNet (Krizhevsky et al. 2012) as reports C and E fit it to images of 32 pixels a side."""

import functools

import flax.linen as nn
import jax

from jaxnets.models.base import ACTIVATIONS, Entry, Network, adaptive_average_pool

VARIANTS = {"pool3": (3, 5), "pool2": (2, 3)}
"""Sides of a pooling's window and of the second kernel; pool3 is report C's, pool2 report E's."""


class AlexNet(Network):
    """Five convolutions, three of them pooled, and three dense layers: [B, H, W, C] -> [B, num_classes].

    57,023,306 parameters with 10 classes and variant "pool3", 56,826,698 with "pool2". Images have 15
    pixels a side at least. `dropout` goes before the first and before the second dense layer. Local
    response normalisation and the two halves of the paper's network are not here, as in the reports.

    References:
        Krizhevsky et al. 2012, ImageNet classification with deep convolutional neural networks.
    """

    variant: str = "pool3"
    activation: str = "relu"
    pooling: str = "max"

    def setup(self) -> None:
        layers, (_, second) = self.layers(conv_bias=True), VARIANTS[self.variant]
        self.conv1 = layers.conv(64, 3, padding=1)
        self.conv2 = layers.conv(192, second, padding=second // 2)
        self.conv3 = layers.conv(384, 3, padding=1)
        self.conv4 = layers.conv(256, 3, padding=1)
        self.conv5 = layers.conv(256, 3, padding=1)
        self.dropout1 = nn.Dropout(self.dropout)
        self.dense1 = layers.dense(4096)
        self.dropout2 = nn.Dropout(self.dropout)
        self.dense2 = layers.dense(4096)
        self.classifier = layers.dense(self.num_classes)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, h, w, 256], after the third pooling: 3x3 or 4x4 at 32 pixels a side."""
        del train
        act, (window, _) = ACTIVATIONS[self.activation], VARIANTS[self.variant]
        pool = functools.partial(self.layers().pool, kind=self.pooling, window=window, stride=2)
        x = pool(act(self.conv1(x)))
        x = pool(act(self.conv2(x)))
        x = act(self.conv4(act(self.conv3(x))))
        return pool(act(self.conv5(x)))

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, 256] -> logits [B, num_classes], in the parameters' dtype."""
        # 6x6 whatever the image's size, as in torchvision; from 3x3 or 4x4 at 32 pixels, bins overlap.
        x = adaptive_average_pool(features, (6, 6)).reshape(features.shape[0], -1)
        act = ACTIVATIONS[self.activation]
        x = act(self.dense1(self.dropout1(x, deterministic=not train)))
        x = act(self.dense2(self.dropout2(x, deterministic=not train)))
        return self.classifier(x).astype(self.dtype)


ENTRY = Entry(
    "AlexNet",
    AlexNet,
    ("variant", "activation", "pooling"),
    smallest=15,
    native_size=32,
    variants=tuple(VARIANTS),
)
