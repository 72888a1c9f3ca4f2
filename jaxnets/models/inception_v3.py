"""Inception v3 (Szegedy et al. 2015, arXiv:1512.00567), in torchvision's form or TensorFlow's and Keras's."""

import itertools
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.models.base import Entry, Layers
from jaxnets.models.inception import (
    Branch,
    Branched,
    Branches,
    BranchLayer,
    NetworkWithAuxiliaryHeads,
    apply_inception_stem,
    chain,
    concatenate,
    inception_stem,
)

AUXILIARY_SIZE = 299
"""Smallest image side for which the auxiliary classifier's 5x5 convolution fits its input."""
VARIANTS = ("torchvision", "keras")
"""Average pooling includes its padding in torchvision's; Keras's and TensorFlow's exclude it."""
INIT = ops.INITIALIZERS["torch"]._replace(kernel=ops.initializers.normal(0.1))
HEAD_INIT = INIT._replace(kernel=ops.initializers.normal(0.001))
"""torchvision's; it truncates at 2, which is 20 deviations and has no effect."""


def mixed6(inner: int) -> Branches:
    """Figure 6, n = 7, with `inner` channels inside the branches."""
    down, across = (inner, 7, 1), (inner, 1, 7)
    return (
        (BranchLayer("branch1x1", 192, (1, 1)),),
        chain("branch7x7_", (inner, 1, 1), across, (192, 7, 1)),
        chain("branch7x7dbl_", (inner, 1, 1), down, across, down, (192, 1, 7)),
    )


MIXED_5: Branches = (  # figure 5, its second branch 5x5
    (BranchLayer("branch1x1", 64, (1, 1)),),
    chain("branch5x5_", (48, 1, 1), (64, 5, 5)),
    chain("branch3x3dbl_", (64, 1, 1), (96, 3, 3), (96, 3, 3)),
)
MIXED_6A: Branches = (  # the first reduction, figure 10
    (BranchLayer("branch3x3", 384, (3, 3), 2),),
    chain("branch3x3dbl_", (64, 1, 1), (96, 3, 3), (96, 3, 3, 2)),
)
MIXED_7A: Branches = (  # the second reduction
    chain("branch3x3_", (192, 1, 1), (320, 3, 3, 2)),
    chain("branch7x7x3_", (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3, 2)),
)
MIXED_7: Branches = (  # figure 7
    (BranchLayer("branch1x1", 320, (1, 1)),),
    (
        *chain("branch3x3_", (384, 1, 1)),
        BranchLayer("branch3x3_2a", 384, (1, 3)),
        BranchLayer("branch3x3_2b", 384, (3, 1)),
    ),
    (
        *chain("branch3x3dbl_", (448, 1, 1), (384, 3, 3)),
        BranchLayer("branch3x3dbl_3a", 384, (1, 3)),
        BranchLayer("branch3x3dbl_3b", 384, (3, 1)),
    ),
)
BLOCKS = {
    "mixed5b": (MIXED_5, 32),
    "mixed5c": (MIXED_5, 64),
    "mixed5d": (MIXED_5, 64),
    "mixed6a": (MIXED_6A, 0),
    "mixed6b": (mixed6(128), 192),
    "mixed6c": (mixed6(160), 192),
    "mixed6d": (mixed6(160), 192),
    "mixed6e": (mixed6(192), 192),
    "mixed7a": (MIXED_7A, 0),
    "mixed7b": (MIXED_7, 192),
    "mixed7c": (MIXED_7, 192),
}
"""The branches of a block, and the features of its pooled branch: average and 1x1, or maximum for 0."""


class Inception(Branched):
    """Parallel branches and a pooled one, concatenated: [B, H, W, C] -> [B, H', W', C'].

    The pooled branch is a 3x3 average and a 1x1 convolution of `pool_features`, or for 0 a 3x3 maximum with
    stride 2.
    """

    variant: str
    pool_features: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        branches = self.applied(x, train=train)
        if not self.pool_features:
            outputs = [layer(y, train=train) for layer, y in branches]
            return jnp.concatenate([*outputs, self.layers.max_pool(x, 3, stride=2)], axis=-1)
        average = self.layers.average_pool(
            x, 3, stride=1, padding=1, count_include_pad=self.variant == "torchvision"
        )
        projection = self.layer(BranchLayer("branch_pool", self.pool_features, (1, 1)))
        return concatenate(self, itertools.chain(branches, [(projection, average)]), train=train)


class ExpandedInception(Inception):
    """Figure 7: the last two layers of each branch but the first are parallel."""

    def applied(self, x: jax.Array, *, train: bool) -> Iterator[Branch]:
        """The branches, applied to [B, H, W, C] but for their last layers."""
        first, *others = self.branches
        yield self.apply_branch(x, *first, train=train)
        for *trunk, one, other in others:
            layer, y = self.apply_branch(x, *trunk, one, train=train)
            yield layer, y
            yield self.layer(other), y


class AuxiliaryClassifier(nn.Module):
    """Average pooling, 1x1 and 5x5 convolutions, a dense layer (section 4): logits [B, num_classes].

    H and W are at least 17.
    """

    num_classes: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.layers.average_pool(x, 5, stride=3)
        x = self.layers.conv_norm(128, 1, name="conv0")(x, train=train)
        x = self.layers.conv_norm(768, 5, name="conv1")(x, train=train)
        classifier = self.layers.dense(self.num_classes, name="classifier")
        return classifier(ops.global_average_pool(x)).astype(self.layers.dtype)


class InceptionV3(NetworkWithAuxiliaryHeads):
    """Stem, eleven Inception blocks, global average, classifier: [B, H, W, 3] -> [B, num_classes].

    H and W are at least 75; images of less than 299 pixels skip the auxiliary head. `variant` selects a
    library's form, from VARIANTS. `truncate_after` is the block that the backbone ends with, for weights
    that lack the later layers.

    References:
        Szegedy et al. 2015, arXiv:1512.00567.
    """

    epsilons, auxiliary_size = 1e-3, AUXILIARY_SIZE
    variant: str = VARIANTS[0]
    truncate_after: str | None = None

    def setup(self) -> None:
        layers = self.layers(conv=INIT, dense=INIT)
        self.stem = inception_stem(layers)
        blocks: dict[str, Inception] = {}
        for name, (branches, pool_features) in BLOCKS.items():
            make = ExpandedInception if branches is MIXED_7 else Inception
            blocks[name] = make(branches, layers, self.variant, pool_features, name=name)
            if name == self.truncate_after:
                break
        self.blocks = blocks
        of_head = self.layers(conv=INIT, dense=HEAD_INIT)
        self.heads = [AuxiliaryClassifier(self.num_classes, of_head, name="auxiliary")]
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def backbone(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, list[jax.Array]]:
        """[B, h, w, C], 8x8 at 299 pixels, C 2048 after mixed7c and 1280 after mixed7a; the head's input."""
        x = apply_inception_stem(self.stem, x, self.layers(), train=train)
        auxiliary_inputs = []
        for name, block in self.blocks.items():
            x = block(x, train=train)
            if name == "mixed6e":
                auxiliary_inputs.append(x)
        return x, auxiliary_inputs


ENTRY = Entry(
    "Inception v3",
    InceptionV3,
    fields=("variant", "auxiliary_heads", "truncate_after"),
    smallest=75,
    native_size=299,
    variants=VARIANTS,
    truncation_blocks=("mixed7a", "mixed7b", "mixed7c"),
    auxiliary_weight=0.4,  # from TF-Slim; the paper does not state it
    auxiliary_size=AUXILIARY_SIZE,
    averages=True,
)
