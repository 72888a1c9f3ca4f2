"""DenseNet-BC (Huang et al. 2016, arXiv:1608.06993): each layer sees all earlier ones of its block."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.models.base import Entry, Layers, Network

BOTTLENECK = 4
"""Channels of a layer's 1x1 convolution per channel that the layer adds (section 3, "Bottleneck layers")."""

EPSILONS = {"torchvision": 1e-5, "keras": 1.001e-5}
"""Epsilon of the batch normalisations, by variant."""

kaiming_normal_fan_in = ops.initializers.scaled("normal", 2.0, "fan_in")
"""Normal with variance 2/fan_in, which torchvision's DenseNets use for convolutions."""
CONV_INIT = ops.INITIALIZERS["torch"]._replace(kernel=kaiming_normal_fan_in)
DENSE_INIT = ops.INITIALIZERS["torch"]._replace(bias=ops.initializers.zero_bias)


class DenseLayer(nn.Module):
    """Norm, ReLU, 1x1; norm, ReLU, 3x3; dropout: [B, H, W, C] -> the new [B, H, W, growth_rate].

    With `channels` x has room for the new ones after its first `channels`, and is returned with them; this
    is for inference with folded variables.
    """

    growth_rate: int
    dropout: float
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, channels: int | None = None) -> jax.Array:
        conv, norm = self.layers.conv, self.layers.norm
        conv_norm = functools.partial(ops.conv_norm, train=train)
        norm1, conv1 = norm(name="norm1"), conv(BOTTLENECK * self.growth_rate, 1, name="conv1")
        y = conv_norm(conv1, norm(name="norm2"), x, before=norm1, relu=True, channels=channels)
        into = None if channels is None else ops.ChannelsOf(x, channels)
        y = conv_norm(conv(self.growth_rate, 3, padding=1, name="conv2"), None, y, into=into)
        return nn.Dropout(self.dropout)(y, deterministic=not train)


class DenseBlock(nn.Module):
    """`size` dense layers: [B, H, W, C] -> [B, H, W, C + size * growth_rate]."""

    size: int
    growth_rate: int
    dropout: float
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels, in_place = x.shape[-1], ops.is_folded(self)
        if in_place:  # layers write their channels beside the others
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.size * self.growth_rate)))
        for number in range(1, self.size + 1):
            layer = DenseLayer(self.growth_rate, self.dropout, self.layers, name=f"layer{number}")
            if in_place:
                x = layer(x, train=train, channels=channels)
            else:
                x = jnp.concatenate([x, layer(x, train=train)], axis=-1)
            channels += self.growth_rate
        return x


class Transition(nn.Module):
    """Norm, ReLU, 1x1, 2x2 average: [B, H, W, C] -> [B, H // 2, W // 2, C // 2] ("Compression").

    The average is taken before the 1x1 convolution: both are linear, and a quarter of the products is left.
    """

    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = self.layers.norm(name="norm")(x, train=train, relu=True)
        y = self.layers.average_pool(y, 2, stride=2)
        return ops.conv_norm(self.layers.conv(x.shape[-1] // 2, 1, name="conv"), None, y, train=train)


class DenseNet(Network):
    """Stem, dense blocks with transitions between, global average, classifier: [B, H, W, 3] -> logits.

    `block_sizes` (6, 12, 24, 16) with `growth_rate` 32 is DenseNet-121, of table 1 and torchvision:
    7,978,856 parameters for 1000 classes. H and W are at least 29, so that the last of five halvings has a
    pixel left. `variant` selects the epsilon of a library, from EPSILONS. `layer_dropout` follows each
    dense layer, `dropout` precedes the classifier. `init_scheme="torch"` is torchvision's, "flax" Flax's.

    References:
        Huang et al. 2016, arXiv:1608.06993.
    """

    epsilons = EPSILONS

    variant: str = "torchvision"
    block_sizes: tuple[int, ...] = (6, 12, 24, 16)
    growth_rate: int = 32
    layer_dropout: float = 0.0

    def setup(self) -> None:
        layers = self.layers(conv=CONV_INIT, dense=DENSE_INIT)
        self.conv0 = layers.conv(2 * self.growth_rate, 7, stride=2, padding=3)
        self.norm0 = layers.norm()
        self.dense_blocks = [
            DenseBlock(size, self.growth_rate, self.layer_dropout, layers, name=f"dense_block{number}")
            for number, size in enumerate(self.block_sizes, 1)
        ]
        self.transitions = [
            Transition(layers, name=f"transition{number}") for number in range(1, len(self.block_sizes))
        ]
        self.norm5 = layers.norm()
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, h, w, C], after the last norm and its ReLU; 224 px give 7x7x1024."""
        x = ops.conv_norm(self.conv0, self.norm0, x, train=train, relu=True)
        x = self.layers().max_pool(x, 3, stride=2, padding=1)
        for block, transition in zip(self.dense_blocks, self.transitions, strict=False):
            x = transition(block(x, train=train), train=train)
        x = self.dense_blocks[-1](x, train=train)
        return self.norm5(x, train=train, relu=True)


ENTRY = Entry(
    "DenseNet-121", DenseNet, fields=("variant",), smallest=29, variants=tuple(EPSILONS), averages=True
)
