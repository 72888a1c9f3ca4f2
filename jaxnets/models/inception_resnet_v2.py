"""Inception-ResNet v2 (Szegedy et al. 2016, arXiv:1602.07261), in the form that its authors published.

Their code, and so timm and Keras, differs from the paper's figures: a plainer stem with one more Inception
block (`mixed5b`), twice as many residual blocks, one scale for each kind of block, and a last block
without ReLU.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.models.blocks import ConvNorm, same_padding
from jaxnets.ops.implementation import Implementation
from jaxnets.ops.initializers import BiasInitializer, Initializer

EPSILON = 1e-3
"""Of the batch normalisations."""
SCALE_A, SCALE_B, SCALE_C = 0.17, 0.10, 0.20
"""What a residual is multiplied by before it is added (section 3.3)."""


class Layer(NamedTuple):
    """A convolution of a branch; as in the figures, padded to keep the size unless it has a stride."""

    features: int
    kernel_size: tuple[int, int]
    stride: int = 1


Branches = tuple[tuple[Layer, ...], ...]

MIXED_5B: Branches = (
    (Layer(96, (1, 1)),),
    (Layer(48, (1, 1)), Layer(64, (5, 5))),
    (Layer(64, (1, 1)), Layer(96, (3, 3)), Layer(96, (3, 3))),
)
"""Beside an average pooling with a 1x1 convolution of 64 channels."""
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
    """What the blocks share: branches side by side, convolutions named branch0_conv0, branch1_conv0, ..."""

    branches: Branches
    kernel_init: Initializer
    axis_name: str | None
    implementation: Implementation
    dtype: Any
    compute_dtype: Any

    def conv(self, layer: Layer, name: str) -> ConvNorm:
        """One convolution with its norm and ReLU."""
        return ConvNorm(
            layer.features,
            layer.kernel_size,
            kernel_init=self.kernel_init,
            strides=(layer.stride, layer.stride),
            padding=same_padding(layer.kernel_size) if layer.stride == 1 else ((0, 0), (0, 0)),
            epsilon=EPSILON,
            axis_name=self.axis_name,
            implementation=self.implementation,
            dtype=self.dtype,
            compute_dtype=self.compute_dtype,
            name=name,
        )

    def outputs(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """[B, H, W, C] -> [B, H', W', the last layer's features], one a branch."""
        found = []
        for number, branch in enumerate(self.branches):
            y = x
            for place, layer in enumerate(branch):
                y = self.conv(layer, f"branch{number}_conv{place}")(y, train=train)
            found.append(y)
        return found


class Mixed5b(Branched):
    """The branches and a 3x3 average, which counts no padding, with a 1x1: [B, H, W, C] -> [B, H, W, 320]."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        pooled = ops.average_pool(
            x, (3, 3), strides=(1, 1), padding=((1, 1), (1, 1)), count_include_pad=False
        )
        pooled = self.conv(Layer(64, (1, 1)), "pooled_conv")(pooled, train=train)
        return jnp.concatenate([*self.outputs(x, train=train), pooled], axis=-1)


class Reduction(Branched):
    """The branches and a 3x3 maximum with stride 2: [B, H, W, C] -> [B, (H - 1) // 2, (W - 1) // 2, C']."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        pooled = ops.max_pool(x, (3, 3), strides=(2, 2), implementation=self.implementation)
        return jnp.concatenate([*self.outputs(x, train=train), pooled], axis=-1)


class Residual(Branched):
    """x + scale * projection of the branches, then ReLU where `relu`: [B, H, W, C] -> the same shape."""

    scale: float
    bias_init: BiasInitializer
    relu: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        projection = ops.Conv(
            x.shape[-1],
            (1, 1),
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
            compute_dtype=self.compute_dtype,
            implementation=self.implementation,
            name="projection",
        )
        residual = projection(jnp.concatenate(self.outputs(x, train=train), axis=-1))
        y = x + self.scale * residual
        return nn.relu(y) if self.relu else y


class InceptionResNetV2(nn.Module):
    """Stem, Inception-ResNet A, B and C with reductions between, average, classifier: [B, H, W, 3] -> logits.

    `repeats` (10, 20, 10) of the blocks A, B and C is the network of timm and Keras: 55,843,464 parameters
    for 1000 classes. H and W are at least 75, so that the last reduction has a pixel left; 299 as
    published. Under `init="torch"` all weights have PyTorch's defaults, as timm's; else Flax's.
    """

    num_classes: int
    repeats: tuple[int, int, int] = (10, 20, 10)
    dropout: float = 0.0
    init_scheme: str = "torch"
    axis_name: str | None = None
    implementation: Implementation = "auto"
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    def setup(self) -> None:
        kernel_init, bias_init = ops.INITIALIZERS[self.init_scheme]
        dtypes = {"dtype": self.dtype, "compute_dtype": self.compute_dtype}
        shared = {
            "kernel_init": kernel_init,
            "axis_name": self.axis_name,
            "implementation": self.implementation,
            **dtypes,
        }
        conv = functools.partial(ConvNorm, epsilon=EPSILON, **shared)
        self.stem = [
            conv(32, (3, 3), strides=(2, 2), name="conv1a"),
            conv(32, (3, 3), name="conv2a"),
            conv(64, (3, 3), padding=((1, 1), (1, 1)), name="conv2b"),
            conv(80, (1, 1), name="conv3b"),
            conv(192, (3, 3), name="conv4a"),
        ]
        self.mixed5b = Mixed5b(MIXED_5B, **shared)
        residual = functools.partial(Residual, bias_init=bias_init, **shared)
        count_a, count_b, count_c = self.repeats
        self.blocks = [
            *(
                residual(INCEPTION_RESNET_A, scale=SCALE_A, name=f"inception_resnet_a{number}")
                for number in range(1, count_a + 1)
            ),
            Reduction(REDUCTION_A, name="reduction_a", **shared),
            *(
                residual(INCEPTION_RESNET_B, scale=SCALE_B, name=f"inception_resnet_b{number}")
                for number in range(1, count_b + 1)
            ),
            Reduction(REDUCTION_B, name="reduction_b", **shared),
            *(
                residual(INCEPTION_RESNET_C, scale=SCALE_C, name=f"inception_resnet_c{number}")
                for number in range(1, count_c)
            ),
            residual(
                INCEPTION_RESNET_C, scale=1.0, relu=False, name=f"inception_resnet_c{count_c}"
            ),
        ]
        self.conv7b = conv(1536, (1, 1))
        self.drop = nn.Dropout(self.dropout)
        self.classifier = ops.Dense(
            self.num_classes, kernel_init=kernel_init, bias_init=bias_init, **dtypes
        )

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, h, w, 1536], after the last 1x1 convolution; 299 px give 8x8."""
        conv1a, conv2a, conv2b, conv3b, conv4a = self.stem
        for layer in (conv1a, conv2a, conv2b):
            x = layer(x, train=train)
        x = ops.max_pool(x, (3, 3), strides=(2, 2), implementation=self.implementation)
        x = conv4a(conv3b(x, train=train), train=train)
        x = ops.max_pool(x, (3, 3), strides=(2, 2), implementation=self.implementation)
        x = self.mixed5b(x, train=train)
        for block in self.blocks:
            x = block(x, train=train)
        return self.conv7b(x, train=train)

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, 1536] -> logits [B, num_classes], in the parameters' dtype."""
        pooled = self.drop(ops.global_average_pool(features), deterministic=not train)
        return self.classifier(pooled).astype(self.dtype)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        return self.head(self.features(x, train=train), train=train)
