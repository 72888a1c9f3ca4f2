"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381), in torchvision's form or Keras's."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax

from jaxnets import ops
from jaxnets.models.base import ACTIVATIONS, Entry, Layers, Network, Variant
from jaxnets.ops.initializers import GLOROT, KAIMING, Initialization

_NORMAL = Initialization(ops.initializers.normal(0.01), ops.initializers.zero_bias)
VARIANTS = {
    "torchvision": Variant(1e-5, conv=KAIMING, dense=_NORMAL),
    "keras": Variant(1e-3, conv=GLOROT, dense=GLOROT, same_padding=True),
}


class Stage(NamedTuple):
    """Equal blocks; the first has the stride."""

    expansion: int
    channels: int
    blocks: int
    stride: int
    kernel_size: int = 3


STAGES = (
    Stage(1, 16, blocks=1, stride=1),
    Stage(6, 24, blocks=2, stride=2),
    Stage(6, 32, blocks=3, stride=2),
    Stage(6, 64, blocks=4, stride=2),
    Stage(6, 96, blocks=3, stride=1),
    Stage(6, 160, blocks=3, stride=2),
    Stage(6, 320, blocks=1, stride=1),
)
"""Table 2 of the paper."""


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection: [B, H, W, C] -> [B, H/s, W/s, features].

    The input is added to the projection where both have one shape; there is no activation after it (section
    3.3). Without expansion the first convolution is left out.

    Attributes:
        layers: the network's.
        features: output channels.
        expansion: channels of the depthwise convolution per input channel.
        stride: of the depthwise convolution, in pixels.
        kernel_size: of the depthwise convolution, in pixels.
        same_padding: pad as TensorFlow, otherwise by half the kernel.
        activation: a name of `ACTIVATIONS`.
        squeeze: the depthwise convolution is followed by squeeze-and-excitation, to a quarter of the input
            channels (MnasNet, arXiv:1807.11626; EfficientNet, arXiv:1905.11946).
        stochastic_depth: the probability that training leaves the block out.
        depthwise_init: of the depthwise kernel, by default that of `layers`.
    """

    layers: Layers
    features: int
    expansion: int
    stride: int = 1
    kernel_size: int = 3
    same_padding: bool = False
    activation: str = "relu6"
    squeeze: bool = False
    stochastic_depth: float = 0.0
    depthwise_init: Initialization | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        conv_norm, channels = self.layers.conv_norm, x.shape[-1] * self.expansion
        y = x
        if self.expansion != 1:
            y = conv_norm(channels, 1, activation=self.activation, name="expand")(y, train=train)
        depthwise = conv_norm(
            channels,
            self.kernel_size,
            stride=self.stride,
            padding="same" if self.same_padding else self.kernel_size // 2,
            groups=channels,
            activation=self.activation,
            initialization=self.depthwise_init,
            name="depthwise",
        )
        y = depthwise(y, train=train)
        if self.squeeze:
            squeezed, activation = x.shape[-1] // 4, ACTIVATIONS[self.activation]
            y = ops.SqueezeExcitation(self.layers.conv, squeezed, activation, name="squeeze_excitation")(y)
        project = conv_norm(self.features, 1, activation="identity", name="project")
        if x.shape != (*y.shape[:-1], self.features):
            return project(y, train=train)
        if train and self.stochastic_depth:
            y = project(y, train=train)
            return x + ops.StochasticDepth(self.stochastic_depth)(y, deterministic=False)
        return project(y, train=train, residual=x)


def names_of_blocks(stages: Sequence[Stage]) -> Iterator[tuple[str, Stage, int]]:
    """Yields the name of each block, its stage and its stride."""
    for number, stage in enumerate(stages, start=1):
        for block in range(1, stage.blocks + 1):
            yield f"stage{number}_block{block}", stage, stage.stride if block == 1 else 1


class InvertedResidualNetwork(Network):
    """A stem, blocks and a last 1x1 convolution, which `setup` defines, in the form of a `variant`."""

    epsilons: ClassVar = {name: variant.epsilon for name, variant in VARIANTS.items()}

    variant: str = "torchvision"

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, ceil(H / 32), ceil(W / 32), 1280]."""
        for block in (self.stem, *self.blocks, self.last):
            x = block(x, train=train)
        return x


class MobileNetV2(InvertedResidualNetwork):
    """Stem, 17 inverted residual blocks, 1x1 convolution, classifier: [B, H, W, 3] -> [B, num_classes].

    3,504,872 parameters with 1000 classes. H and W are at least 32, so that the last of five halvings has a
    pixel left. `variant` selects a library's padding, epsilon and initialisation, from VARIANTS; the running
    statistics are updated as PyTorch's in both (Keras: momentum 0.001, biased variance). The libraries train
    with dropout 0.2.

    References:
        Sandler et al. 2018, arXiv:1801.04381.
    """

    def setup(self) -> None:
        variant = VARIANTS[self.variant]
        layers = self.layers(conv=variant.conv, dense=variant.dense)
        padding = "same" if variant.same_padding else 1
        self.stem = layers.conv_norm(32, 3, stride=2, padding=padding, activation="relu6")
        self.blocks = [
            InvertedResidual(
                layers, stage.channels, stage.expansion, stride, same_padding=variant.same_padding, name=name
            )
            for name, stage, stride in names_of_blocks(STAGES)
        ]
        self.last = layers.conv_norm(1280, 1, activation="relu6")
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)


ENTRY = Entry(
    "MobileNetV2", MobileNetV2, fields=("variant",), smallest=32, variants=tuple(VARIANTS), averages=True
)
