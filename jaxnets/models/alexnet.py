"""AlexNet (Krizhevsky et al. 2012) as reports C and E fit it to images of 32 pixels a side."""

from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.models.blocks import ACTIVATIONS, adaptive_average_pool, pool, same_padding
from jaxnets.ops.implementation import Implementation

POOLED = (6, 6)
"""What the dense layers see, height and width, whatever the image's size: torchvision's adaptive pooling.

At 32 pixels the last map is 3x3 or 4x4, so its bins overlap and repeat pixels.
"""
HIDDEN = 4096


class Variant(NamedTuple):
    """A max pooling's window (its stride is 2), and the second convolution's kernel."""

    window: int
    second_kernel: int


POOL3, POOL2 = "pool3", "pool2"
VARIANTS = MappingProxyType({POOL3: Variant(3, 5), POOL2: Variant(2, 3)})
"""pool3 is report C's, pool2 report E's."""


class AlexNet(nn.Module):
    """Five convolutions, three of them pooled, and three dense layers: [B, H, W, C] -> [B, num_classes].

    57,023,306 parameters with 10 classes and variant "pool3", 56,826,698 with "pool2". Images have 15
    pixels a side at least. `dropout` goes before the first and before the second dense layer. Local
    response normalisation and the two halves of the paper's network are not here, as in the reports.
    """

    num_classes: int
    variant: str = POOL3
    activation: str = "relu"
    pooling: str = "max"
    dropout: float = 0.0
    init_scheme: str = "torch"
    implementation: Implementation = "auto"
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    def setup(self) -> None:
        kernel_init, bias_init = ops.INITIALIZERS[self.init_scheme]
        shared = {
            "kernel_init": kernel_init,
            "bias_init": bias_init,
            "dtype": self.dtype,
            "compute_dtype": self.compute_dtype,
        }

        def conv(features: int, side: int) -> ops.Conv:
            return ops.Conv(
                features,
                (side, side),
                padding=same_padding((side, side)),
                implementation=self.implementation,
                **shared,
            )

        self.conv1 = conv(64, 3)
        self.conv2 = conv(192, VARIANTS[self.variant].second_kernel)
        self.conv3 = conv(384, 3)
        self.conv4 = conv(256, 3)
        self.conv5 = conv(256, 3)
        self.dropout1 = nn.Dropout(self.dropout)
        self.dense1 = ops.Dense(HIDDEN, **shared)
        self.dropout2 = nn.Dropout(self.dropout)
        self.dense2 = ops.Dense(HIDDEN, **shared)
        self.classifier = ops.Dense(self.num_classes, **shared)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, h, w, 256], after the third pooling: 3x3 or 4x4 at 32 pixels a side."""
        del train
        squash = ACTIVATIONS[self.activation]
        x = self._pool(squash(self.conv1(x)))
        x = self._pool(squash(self.conv2(x)))
        x = squash(self.conv4(squash(self.conv3(x))))
        return self._pool(squash(self.conv5(x)))

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, 256] -> logits [B, num_classes], in the parameters' dtype."""
        x = adaptive_average_pool(features, POOLED).reshape(features.shape[0], -1)
        squash = ACTIVATIONS[self.activation]
        x = squash(self.dense1(self.dropout1(x, deterministic=not train)))
        x = squash(self.dense2(self.dropout2(x, deterministic=not train)))
        return self.classifier(x).astype(self.dtype)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        return self.head(self.features(x, train=train), train=train)

    def _pool(self, x: jax.Array) -> jax.Array:
        side = VARIANTS[self.variant].window
        return pool(
            x, self.pooling, (side, side), strides=(2, 2), implementation=self.implementation
        )
