"""EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946) and EfficientNet-Lite0 to Lite2.

Lite is a form for phones: ReLU6 for SiLU, no squeeze-and-excitation, and a stem and a last convolution that
are not scaled (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
"""

import math

import flax.linen as nn

from jaxnets import ops
from jaxnets.models.base import Entry
from jaxnets.models.mobilenet import (
    VARIANTS,
    InvertedResidual,
    InvertedResidualNetwork,
    Stage,
    names_of_blocks,
)
from jaxnets.ops.initializers import KAIMING, Initialization

_DENSE = Initialization(ops.initializers.scaled("uniform", 1 / 3, "fan_out"), ops.initializers.zero_bias)
_DEPTHWISE = Initialization(ops.initializers.scaled("normal", 2.0, "fan_in"), ops.initializers.zero_bias)
"""TensorFlow's: the fan-out of one group. That of all groups gives variances below epsilon."""
STAGES = (
    Stage(1, 16, blocks=1, stride=1),
    Stage(6, 24, blocks=2, stride=2),
    Stage(6, 40, blocks=2, stride=2, kernel_size=5),
    Stage(6, 80, blocks=3, stride=2),
    Stage(6, 112, blocks=3, stride=1, kernel_size=5),
    Stage(6, 192, blocks=4, stride=2, kernel_size=5),
    Stage(6, 320, blocks=1, stride=1),
)
"""Table 1 of the paper."""


def scaled_stages(width: float, depth: float) -> tuple[Stage, ...]:
    """STAGES with more channels, in multiples of 8, and more blocks, except in the first and the last."""
    last = len(STAGES) - 1
    return tuple(
        stage._replace(
            channels=_multiple_of_8(width * stage.channels),
            blocks=stage.blocks if number in (0, last) else math.ceil(depth * stage.blocks),
        )
        for number, stage in enumerate(STAGES)
    )


def _multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, or the next one if that is less than 90 %."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class EfficientNet(InvertedResidualNetwork):
    """Stem, seven stages of blocks, 1x1 convolution, classifier: [B, H, W, 3] -> [B, num_classes].

    With 1000 classes B0 has 5,288,548 parameters, Lite0 4,652,008, Lite1 5,416,680 and Lite2 6,092,072. H
    and W are at least 32, so that the last of five halvings has a pixel left.

    Attributes:
        width: multiplies the channels of the stages.
        depth: multiplies the blocks of the stages.
        lite: ReLU6 for SiLU, and no squeeze-and-excitation.
        stochastic_depth: training leaves block i of n, counted from 0, out with this probability times i / n.
            torchvision's default for B0 is 0.2.
        variant: "torchvision", or "keras" for TensorFlow's padding and epsilon, which Lite has.

    References:
        Tan and Le 2019, arXiv:1905.11946.
    """

    width: float = 1.0
    depth: float = 1.0
    lite: bool = False
    stochastic_depth: float = 0.0

    def setup(self) -> None:
        same_padding = VARIANTS[self.variant].same_padding
        layers = self.layers(conv=KAIMING, dense=_DENSE)
        activation, padding = "relu6" if self.lite else "silu", "same" if same_padding else 1
        self.stem = layers.conv_norm(32, 3, stride=2, padding=padding, activation=activation)
        own_depthwise = same_padding and self.init_scheme == "torch"
        blocks = list(names_of_blocks(scaled_stages(self.width, self.depth)))
        self.blocks = [
            InvertedResidual(
                layers,
                stage.channels,
                stage.expansion,
                stride,
                stage.kernel_size,
                same_padding,
                activation,
                squeeze=not self.lite,
                stochastic_depth=self.stochastic_depth * number / len(blocks),
                depthwise_init=_DEPTHWISE if own_depthwise else None,
                name=name,
            )
            for number, (name, stage, stride) in enumerate(blocks)
        ]
        self.last = layers.conv_norm(1280, 1, activation=activation)
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)


def _lite(number: int, native_size: int, width: float = 1.0, depth: float = 1.0) -> Entry:
    return Entry(
        f"EfficientNet-Lite{number}",
        EfficientNet,
        fields=("stochastic_depth",),
        settings={"width": width, "depth": depth, "lite": True, "variant": "keras"},
        smallest=32,
        native_size=native_size,
        averages=True,
    )


B0 = Entry(
    "EfficientNet-B0",
    EfficientNet,
    fields=("stochastic_depth", "variant"),
    smallest=32,
    variants=tuple(VARIANTS),
    averages=True,
)
LITE0 = _lite(0, 224)
LITE1 = _lite(1, 240, depth=1.1)
LITE2 = _lite(2, 260, width=1.1, depth=1.2)
