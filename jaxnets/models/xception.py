"""Xception (Chollet 2016, arXiv:1610.02357), in Keras's form or timm's."""

from typing import ClassVar

import flax.linen as nn
import jax

from jaxnets import ops
from jaxnets.models.base import Entry, Layers, Network, Variant
from jaxnets.ops.initializers import GLOROT, KAIMING
from jaxnets.ops.windows import same_padding

VARIANTS = {
    "keras": Variant(1e-3, conv=GLOROT, dense=GLOROT, same_padding=True),
    "timm": Variant(1e-5, conv=KAIMING, dense=ops.INITIALIZERS["torch"]),
}
"""timm's is `legacy_xception`; the padding is that of the poolings."""

DOWNSAMPLING = {2: (128, 128), 3: (256, 256), 4: (728, 728), 13: (728, 1024)}
"""Channels of the separable convolutions in blocks that end with a pooling, by Keras's number (figure 5)."""
BLOCKS = {number: DOWNSAMPLING.get(number, (728, 728, 728)) for number in range(2, 14)}


class SeparableConvNorm(nn.Module):
    """Depthwise convolution, 1x1 convolution, batch normalisation: [B, H, W, C] -> [B, H/s, W/s, features].

    The padding is TensorFlow's "same". Nothing stands between the convolutions (section 4.7).
    """

    layers: Layers
    features: int
    kernel_size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, residual: jax.Array | None = None, relu: bool = False
    ) -> jax.Array:
        conv, channels = self.layers.conv, x.shape[-1]
        geometry = {"stride": self.stride, "padding": "same", "groups": channels}
        depthwise = conv(channels, self.kernel_size, **geometry, name="depthwise")
        x = ops.conv_norm(depthwise, None, x, train=train)
        pointwise, norm = conv(self.features, 1, name="conv"), self.layers.norm(name="norm")
        return ops.conv_norm(pointwise, norm, x, train=train, residual=residual, relu=relu)


class Block(nn.Module):
    """Separable convolutions, each after a ReLU, and a shortcut: [B, H, W, C] -> [B, h, w, features[-1]].

    With `downsamples` a 3x3 maximum with stride 2 follows them, and the shortcut is a 1x1 convolution.
    Without `relu_first` no ReLU precedes the first separable convolution.
    """

    layers: Layers
    features: tuple[int, ...]
    downsamples: bool
    relu_first: bool
    same_padding: bool

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = nn.relu(x) if self.relu_first else x
        for number, features in enumerate(self.features, 1):
            is_last = number == len(self.features)
            residual = x if is_last and not self.downsamples else None
            layer = SeparableConvNorm(self.layers, features, name=f"sepconv{number}")
            y = layer(y, train=train, residual=residual, relu=not is_last)
        if not self.downsamples:
            return y
        window, strides, padding = (3, 3), (2, 2), ((1, 1), (1, 1))
        if self.same_padding:
            padding = same_padding(y.shape[1:3], window, strides)
        implementation = self.layers.implementation
        y = ops.max_pool(y, window, strides=strides, padding=padding, implementation=implementation)
        shortcut = self.layers.conv_norm(
            self.features[-1], 1, stride=2, activation="identity", name="shortcut"
        )
        return shortcut(x, train=train, residual=y)


class Xception(Network):
    """Two convolutions, 36 separable ones, global average, classifier: [B, H, W, 3] -> [B, num_classes].

    22,855,952 parameters with 1000 classes. H and W are at least 71, as in Keras; 299 in the paper. `variant`
    selects a library's pooling, epsilon and initialisation, from VARIANTS; the running statistics are updated
    as PyTorch's in both (Keras: momentum 0.01, biased variance).

    References:
        Chollet 2016, arXiv:1610.02357.
    """

    epsilons: ClassVar = {name: variant.epsilon for name, variant in VARIANTS.items()}

    variant: str = "keras"

    def setup(self) -> None:
        variant = VARIANTS[self.variant]
        layers = self.layers(conv=variant.conv, dense=variant.dense)
        self.conv1 = layers.conv_norm(32, 3, stride=2)
        self.conv2 = layers.conv_norm(64, 3)
        self.blocks = [
            Block(
                layers,
                features,
                downsamples=number in DOWNSAMPLING,
                relu_first=number > 2,
                same_padding=variant.same_padding,
                name=f"block{number}",
            )
            for number, features in BLOCKS.items()
        ]
        self.block14 = [
            SeparableConvNorm(layers, features, name=f"block14_sepconv{number}")
            for number, features in enumerate((1536, 2048), 1)
        ]
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, h, w, 2048], after the last ReLU; 299 px give 10x10."""
        x = self.conv2(self.conv1(x, train=train), train=train)
        for block in self.blocks:
            x = block(x, train=train)
        for layer in self.block14:
            x = layer(x, train=train, relu=True)
        return x


ENTRY = Entry(
    "Xception",
    Xception,
    fields=("variant",),
    smallest=71,
    native_size=299,
    variants=tuple(VARIANTS),
    averages=True,
)
