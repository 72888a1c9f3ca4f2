"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545)."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from jaxnets import ops
from jaxnets.models.base import ACTIVATIONS, Entry, Layers, Network
from jaxnets.ops.initializers import Initialization

_NORMAL = Initialization(ops.initializers.normal(0.02), ops.initializers.zero_bias)
"""The paper cuts the tails at ±2, which are 100 standard deviations."""


class Block(nn.Module):
    """Depthwise convolution, layer normalisation, two dense layers around GELU: [B, H, W, C] -> the same.

    The input is added to the result times the parameters layer_scale [C].

    Attributes:
        layers: the network's.
        stochastic_depth: the probability that training leaves the block out.

    References:
        Touvron et al. 2021, arXiv:2103.17239, for layer_scale.
    """

    layers: Layers
    stochastic_depth: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels = x.shape[-1]
        y = self.layers.conv(channels, 7, padding=3, groups=channels, name="depthwise_conv")(x)
        y = self.layers.layer_norm(name="norm")(y)
        y = ACTIVATIONS["gelu"](self.layers.dense(4 * channels, name="expand")(y))
        y = self.layers.dense(channels, name="project")(y)
        scale = self.param("layer_scale", nn.initializers.constant(1e-6), (channels,), self.layers.dtype)
        y = y * scale.astype(y.dtype).reshape(1, 1, 1, channels)
        return x + ops.StochasticDepth(self.stochastic_depth)(y, deterministic=not train)


class ConvNeXt(Network):
    """Stem, four stages of blocks, classifier: [B, H, W, 3] -> [B, num_classes].

    28,589,128 parameters with 1000 classes. H and W are at least 32, so that a pixel is left after a division
    by 4 and three by 2.

    Attributes:
        stochastic_depth: the probability that training leaves the last block out; it grows with the depth.
            The paper's is 0.1.
        stage_sizes: the blocks of each stage.
        widths: the channels of each stage.

    References:
        Liu et al. 2022, A ConvNet for the 2020s, arXiv:2201.03545.
    """

    stochastic_depth: float = 0.0
    stage_sizes: Sequence[int] = (3, 3, 9, 3)
    widths: Sequence[int] = (96, 192, 384, 768)

    def setup(self) -> None:
        layers = self.layers(conv=_NORMAL, dense=_NORMAL, conv_bias=True)
        self.stem_conv = layers.conv(self.widths[0], 4, stride=4)
        self.stem_norm = layers.layer_norm()
        last, number, body = sum(self.stage_sizes) - 1, 0, []
        for stage, (blocks, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True), start=1):
            if stage > 1:
                name = f"stage{stage}_downsample"
                body += [layers.layer_norm(name=f"{name}_norm"), layers.conv(width, 2, stride=2, name=name)]
            for block in range(1, blocks + 1):
                rate = self.stochastic_depth * number / last
                body.append(Block(layers, rate, name=f"stage{stage}_block{block}"))
                number += 1
        self.body = body
        self.norm = layers.layer_norm()
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, H // 32, W // 32, 768]."""
        x = self.stem_norm(self.stem_conv(x))
        for layer in self.body:
            x = layer(x, train=train) if isinstance(layer, Block) else layer(x)
        return x

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, 768] -> logits [B, num_classes], in the parameters' dtype."""
        pooled = self.norm(ops.global_average_pool(features))
        return self.classifier(self.drop(pooled, deterministic=not train)).astype(self.dtype)


TINY = Entry("ConvNeXt-Tiny", ConvNeXt, fields=("stochastic_depth",), smallest=32, averages=True)
