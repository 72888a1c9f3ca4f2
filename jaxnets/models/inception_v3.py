"""Inception v3 (Szegedy et al. 2015, arXiv:1512.00567), in torchvision's form or TensorFlow's and Keras's."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.models.base import ConvNorm, Entry, Layers, Network, same
from jaxnets.models.outputs import ModelOutput
from jaxnets.ops.initializers import Initialization

AUXILIARY_WEIGHT = 0.4
"""Weight of the auxiliary classifier in the loss, from TF-Slim; the paper does not state it."""
AUXILIARY_SIZE = 299
"""Smallest image side for which the auxiliary classifier's 5x5 convolution fits its input."""
LAST_BLOCKS = ("mixed7a", "mixed7b", "mixed7c")
"""Blocks after the input of the auxiliary classifier; the backbone may end with any of them."""
TORCHVISION, KERAS = "torchvision", "keras"
VARIANTS = (TORCHVISION, KERAS)
"""Average pooling includes its padding in torchvision's; Keras's and TensorFlow's exclude it."""


def initialization(scheme: str) -> Initialization:
    """The initialisation of `init_scheme`; "torch" is torchvision's normal of deviation 0.1 for every kernel.

    torchvision truncates it at 2, which is 20 deviations and has no effect.
    """
    default = ops.INITIALIZERS[scheme]
    return default._replace(kernel=ops.initializers.normal(0.1)) if scheme == "torch" else default


class Block(nn.Module):
    """What the blocks A to E share: parallel branches, concatenated: [B, H, W, C] -> [B, H', W', C']."""

    layers: Layers
    variant: str

    def average(self, x: jax.Array) -> jax.Array:
        """3x3 average pooling that keeps the size: [B, H, W, C] -> [B, H, W, C]."""
        return ops.average_pool(
            x,
            (3, 3),
            strides=(1, 1),
            padding=((1, 1), (1, 1)),
            count_include_pad=self.variant == TORCHVISION,
        )

    def conv(self, name: str, features: int, height: int, width: int, stride: int = 1) -> ConvNorm:
        """A layer of a branch; layers of stride 2 have no padding."""
        size = (height, width)
        padding = same(size) if stride == 1 else 0
        return self.layers.conv_norm(features, size, stride=stride, padding=padding, name=name)

    def chain(self, x: jax.Array, branch: str, *layers: tuple[int, ...], train: bool) -> jax.Array:
        """Layers BRANCH_1, BRANCH_2, ..., each (features, height, width[, stride])."""
        for number, layer in enumerate(layers, 1):
            x = self.conv(f"{branch}_{number}", *layer)(x, train=train)
        return x


class InceptionA(Block):
    """Figure 5, its first branch 5x5: [B, H, W, C] -> [B, H, W, 224 + pool_features]."""

    pool_features: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        branches = [
            self.conv("branch1x1", 64, 1, 1)(x, train=train),
            self.chain(x, "branch5x5", (48, 1, 1), (64, 5, 5), train=train),
            self.chain(x, "branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3), train=train),
            self.conv("branch_pool", self.pool_features, 1, 1)(self.average(x), train=train),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionB(Block):
    """The first reduction, figure 10: [B, H, W, C] -> [B, (H - 1) // 2, (W - 1) // 2, 480 + C]."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        branches = [
            self.conv("branch3x3", 384, 3, 3, 2)(x, train=train),
            self.chain(x, "branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3, 2), train=train),
            self.layers.max_pool(x, 3, stride=2),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionC(Block):
    """Figure 6, n = 7, `channels` inside the branches: [B, H, W, C] -> [B, H, W, 768]."""

    channels: int = 128

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        inner, out = self.channels, 192
        down, across = (inner, 7, 1), (inner, 1, 7)
        double = ((inner, 1, 1), down, across, down, (out, 1, 7))
        branches = [
            self.conv("branch1x1", out, 1, 1)(x, train=train),
            self.chain(x, "branch7x7", (inner, 1, 1), across, (out, 7, 1), train=train),
            self.chain(x, "branch7x7dbl", *double, train=train),
            self.conv("branch_pool", out, 1, 1)(self.average(x), train=train),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionD(Block):
    """The second reduction: [B, H, W, C] -> [B, (H - 1) // 2, (W - 1) // 2, 512 + C]."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        long = ((192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3, 2))
        branches = [
            self.chain(x, "branch3x3", (192, 1, 1), (320, 3, 3, 2), train=train),
            self.chain(x, "branch7x7x3", *long, train=train),
            self.layers.max_pool(x, 3, stride=2),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionE(Block):
    """Figure 7, its filter banks expanded at the ends: [B, H, W, C] -> [B, H, W, 2048]."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        once = self.conv("branch3x3_1", 384, 1, 1)(x, train=train)
        twice = self.chain(x, "branch3x3dbl", (448, 1, 1), (384, 3, 3), train=train)
        branches = [
            self.conv("branch1x1", 320, 1, 1)(x, train=train),
            self.conv("branch3x3_2a", 384, 1, 3)(once, train=train),
            self.conv("branch3x3_2b", 384, 3, 1)(once, train=train),
            self.conv("branch3x3dbl_3a", 384, 1, 3)(twice, train=train),
            self.conv("branch3x3dbl_3b", 384, 3, 1)(twice, train=train),
            self.conv("branch_pool", 192, 1, 1)(self.average(x), train=train),
        ]
        return jnp.concatenate(branches, axis=-1)


class AuxiliaryClassifier(nn.Module):
    """Average pooling, 1x1 and 5x5 convolutions, a dense layer (section 4): logits [B, num_classes].

    H and W are at least 17. `dense_init` initialises the dense layer.
    """

    num_classes: int
    dense_init: Initialization
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = ops.average_pool(x, (5, 5), strides=(3, 3))
        x = self.layers.conv_norm(128, 1, name="conv0")(x, train=train)
        x = self.layers.conv_norm(768, 5, name="conv1")(x, train=train)
        classifier = self.layers.dense(self.num_classes, init=self.dense_init, name="classifier")
        return classifier(ops.global_average_pool(x)).astype(self.layers.dtype)


class InceptionV3(Network):
    """Stem, eleven Inception blocks, global average, classifier: [B, H, W, 3] -> [B, num_classes].

    H and W are at least 75. In training on 299 pixels or more, with `auxiliary_heads`, the output is a
    ModelOutput; smaller images skip the auxiliary head, and evaluation never runs it. `variant` selects a
    library's form, from VARIANTS. `init_scheme` "torch" is torchvision's. `truncate_after` is the one of
    LAST_BLOCKS that the backbone ends with, for weights that lack the later layers.
    """

    variant: str = TORCHVISION
    auxiliary_heads: bool = True
    truncate_after: str | None = None

    def setup(self) -> None:
        init = initialization(self.init_scheme)
        layers = self.layers(conv=init, dense=init, epsilon=1e-3)
        self.conv1a = layers.conv_norm(32, 3, stride=2)
        self.conv2a = layers.conv_norm(32, 3)
        self.conv2b = layers.conv_norm(64, 3, padding=1)
        self.conv3b = layers.conv_norm(80, 1)
        self.conv4a = layers.conv_norm(192, 3)
        block = (layers, self.variant)
        self.blocks = [
            InceptionA(*block, pool_features=32, name="mixed5b"),
            InceptionA(*block, pool_features=64, name="mixed5c"),
            InceptionA(*block, pool_features=64, name="mixed5d"),
            InceptionB(*block, name="mixed6a"),
            InceptionC(*block, channels=128, name="mixed6b"),
            InceptionC(*block, channels=160, name="mixed6c"),
            InceptionC(*block, channels=160, name="mixed6d"),
            InceptionC(*block, channels=192, name="mixed6e"),
        ]
        last = self.truncate_after or LAST_BLOCKS[-1]
        self.last_blocks = [
            (InceptionD if name == LAST_BLOCKS[0] else InceptionE)(*block, name=name)
            for name in LAST_BLOCKS[: LAST_BLOCKS.index(last) + 1]
        ]
        small = init._replace(kernel=ops.initializers.normal(0.001))
        self.auxiliary = AuxiliaryClassifier(
            self.num_classes, small if self.init_scheme == "torch" else init, layers
        )
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, h, w, C]: 2048 after mixed7c, 1280 after mixed7a; 8x8 at 299 pixels."""
        return self._backbone(x, train=train)[0]

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array | ModelOutput:
        features, tapped = self._backbone(x, train=train)
        logits = self.head(features, train=train)
        has_head = self.auxiliary_heads and min(x.shape[1:3]) >= AUXILIARY_SIZE
        if not has_head or not (train or self.is_initializing()):
            return logits
        other = self.auxiliary(tapped, train=train)
        return ModelOutput(logits, (other,)) if train else logits

    def _backbone(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """The features, and the input of the auxiliary classifier."""
        max_pool = self.layers().max_pool
        for conv in (self.conv1a, self.conv2a, self.conv2b):
            x = conv(x, train=train)
        x = max_pool(x, 3, stride=2)
        x = self.conv4a(self.conv3b(x, train=train), train=train)
        x = max_pool(x, 3, stride=2)
        for block in self.blocks:
            x = block(x, train=train)
        tapped = x
        for block in self.last_blocks:
            x = block(x, train=train)
        return x, tapped


ENTRY = Entry(
    "Inception v3",
    InceptionV3,
    fields=("variant", "auxiliary_heads", "truncate_after"),
    smallest=75,
    variants=VARIANTS,
    truncation_blocks=LAST_BLOCKS,
    auxiliary_weight=AUXILIARY_WEIGHT,
    auxiliary_size=AUXILIARY_SIZE,
    averages=True,
)
