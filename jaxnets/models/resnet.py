"""ResNet with bottleneck blocks (He et al. 2015, arXiv:1512.03385), in torchvision's form or Keras's."""

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.ops.implementation import Implementation
from jaxnets.ops.initializers import BiasInitializer, Initialization, zero_bias

EXPANSION = 4
"""Output channels of a bottleneck block per channel of its 3x3 convolution."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """What one library's ResNet has and another's has not."""

    stride_on_3x3: bool
    conv_biases: bool
    epsilon: float


TORCHVISION = "torchvision"
KERAS = "keras"
VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        TORCHVISION: Variant(stride_on_3x3=True, conv_biases=False, epsilon=1e-5),
        KERAS: Variant(stride_on_3x3=False, conv_biases=True, epsilon=1.001e-5),
    }
)
"""torchvision's is "v1.5"; the paper's strides ("v1") are on the first 1x1, as Keras's."""


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, added to the shortcut: [B, H, W, C] -> [B, H/s, W/s, 4 * width].

    The stride is on the 3x3 or the first 1x1 (`variant`). The shortcut is projected where its shape
    differs (section 3.3, option B).
    """

    width: int
    stride: int
    variant: Variant
    kernel_init: Any
    bias_init: BiasInitializer | None
    axis_name: str | None
    implementation: Implementation
    dtype: Any
    compute_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        shared = {
            "dtype": self.dtype,
            "compute_dtype": self.compute_dtype,
            "implementation": self.implementation,
        }
        conv = functools.partial(
            ops.Conv, kernel_init=self.kernel_init, bias_init=self.bias_init, **shared
        )
        norm = functools.partial(
            ops.BatchNorm, epsilon=self.variant.epsilon, axis_name=self.axis_name, **shared
        )
        strides = (self.stride, self.stride)
        first, second = ((1, 1), strides) if self.variant.stride_on_3x3 else (strides, (1, 1))

        y = conv(self.width, (1, 1), strides=first, name="conv1")(x)
        y = nn.relu(norm(name="norm1")(y, train=train))
        y = conv(self.width, (3, 3), strides=second, padding=((1, 1), (1, 1)), name="conv2")(y)
        y = nn.relu(norm(name="norm2")(y, train=train))
        y = conv(EXPANSION * self.width, (1, 1), name="conv3")(y)
        y = norm(name="norm3")(y, train=train)

        shortcut = x
        if x.shape[-1] != EXPANSION * self.width or self.stride != 1:
            shortcut = conv(EXPANSION * self.width, (1, 1), strides=strides, name="projection")(x)
            shortcut = norm(name="projection_norm")(shortcut, train=train)
        return nn.relu(y + shortcut)


class ResNet(nn.Module):
    """Stem, stages of bottleneck blocks, global average, classifier: [B, H, W, 3] -> [B, num_classes].

    H and W are at least 32, so that the last of five halvings has a pixel left. `stage_sizes`
    (3, 4, 6, 3) with `width` 64 is ResNet-50. `variant` is the library whose form this is, of VARIANTS; its
    running statistics move as PyTorch's in both (Keras's: momentum 0.01, biased variance). `init="torch"` is
    the library's own: torchvision's convolutions Kaiming normal over fan_out with PyTorch's default for the
    classifier, Keras's all Glorot uniform with biases 0; "flax" is Flax's defaults.
    """

    num_classes: int
    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    variant: str = TORCHVISION
    dropout: float = 0.0
    init_scheme: str = "torch"
    axis_name: str | None = None
    implementation: Implementation = "auto"
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    def setup(self) -> None:
        variant = VARIANTS[self.variant]
        conv, default = _initializations(self.variant, self.init_scheme)
        bias_init = conv.bias if variant.conv_biases else None
        dtypes = {"dtype": self.dtype, "compute_dtype": self.compute_dtype}
        shared = {"implementation": self.implementation, **dtypes}
        self.conv1 = ops.Conv(
            self.width,
            (7, 7),
            kernel_init=conv.kernel,
            bias_init=bias_init,
            strides=(2, 2),
            padding=((3, 3), (3, 3)),
            **shared,
        )
        self.norm1 = ops.BatchNorm(epsilon=variant.epsilon, axis_name=self.axis_name, **shared)
        self.blocks = [
            Bottleneck(
                width=self.width * 2**stage,
                stride=2 if stage > 0 and block == 0 else 1,
                variant=variant,
                kernel_init=conv.kernel,
                bias_init=bias_init,
                axis_name=self.axis_name,
                name=f"stage{stage + 1}_block{block + 1}",
                **shared,
            )
            for stage, size in enumerate(self.stage_sizes)
            for block in range(size)
        ]
        self.drop = nn.Dropout(self.dropout)
        self.classifier = ops.Dense(
            self.num_classes, kernel_init=default.kernel, bias_init=default.bias, **dtypes
        )

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, ceil(H / 32), ceil(W / 32), 32 * width], after the last ReLU."""
        x = nn.relu(self.norm1(self.conv1(x), train=train))
        x = ops.max_pool(
            x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)), implementation=self.implementation
        )
        for block in self.blocks:
            x = block(x, train=train)
        return x

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, C] -> logits [B, num_classes], in the parameters' dtype."""
        pooled = self.drop(ops.global_average_pool(features), deterministic=not train)
        return self.classifier(pooled).astype(self.dtype)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        return self.head(self.features(x, train=train), train=train)


def _initializations(variant: str, style: str) -> tuple[Initialization, Initialization]:
    """Of the convolutions and of the classifier."""
    if style != "torch":
        return ops.INITIALIZERS[style], ops.INITIALIZERS[style]
    if variant == KERAS:
        glorot = Initialization(ops.initializers.scaled("uniform", 1.0, "fan_avg"), zero_bias)
        return glorot, glorot
    default = ops.INITIALIZERS[style]
    return Initialization(ops.kaiming_normal_fan_out, default.bias), default
