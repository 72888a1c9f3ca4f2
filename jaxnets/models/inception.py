"""What the Inception networks share: auxiliary heads, parallel branches, and the stem of the later ones."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.models.base import ConvNorm, Layers, ModelOutput, Network
from jaxnets.ops.windows import Pair


class NetworkWithAuxiliaryHeads(Network):
    """In training, with `auxiliary_heads`, it gives a ModelOutput; evaluation has the main head alone.

    Subclasses define `backbone`, and in `setup` `heads`, which images of `auxiliary_size` pixels or more use.
    """

    auxiliary_heads: bool = True
    auxiliary_size: ClassVar[int] = 1

    def backbone(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, list[jax.Array]]:
        """The features, and the input of each auxiliary head."""
        raise NotImplementedError

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, h, w, features]."""
        return self.backbone(x, train=train)[0]

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array | ModelOutput:
        features, auxiliary_inputs = self.backbone(x, train=train)
        logits = self.head(features, train=train)
        has_heads = self.auxiliary_heads and min(x.shape[1:3]) >= self.auxiliary_size
        if not has_heads or not (train or self.is_initializing()):
            return logits
        others = tuple(head(y, train=train) for head, y in zip(self.heads, auxiliary_inputs, strict=True))
        return ModelOutput(logits, others) if train else logits


class BranchLayer(NamedTuple):
    """A convolution of a block's branch, with padding that keeps the size unless it has a stride."""

    name: str
    features: int
    kernel_size: Pair
    stride: int = 1


Branches = tuple[tuple[BranchLayer, ...], ...]


def chain(prefix: str, *sizes: tuple[int, ...], first: int = 1) -> tuple[BranchLayer, ...]:
    """Layers PREFIX1, PREFIX2, ..., each (features, height, width[, stride]); the first number is `first`."""
    return tuple(
        BranchLayer(f"{prefix}{number}", features, (height, width), *stride)
        for number, (features, height, width, *stride) in enumerate(sizes, first)
    )


Branch = tuple[ConvNorm, jax.Array]
"""The last layer of a branch, and its input."""


def concatenate(block: nn.Module, branches: Iterable[Branch], *, train: bool) -> jax.Array:
    """The outputs of a block's branches, whose last layers end with ReLU: [B, H', W', sum of features].

    With packed variables the layers write into the result. Otherwise each is applied before the next branch.
    """
    if not ops.is_packed(block):
        return jnp.concatenate([layer(x, train=train) for layer, x in branches], axis=-1)
    branches = list(branches)
    y: jax.Array | int = sum(layer.features for layer, _ in branches)
    first = 0
    for layer, x in branches:
        y = layer(x, train=train, into=ops.ChannelsOf(y, first))
        first += layer.features
    assert not isinstance(y, int), "a block has branches"
    return y


class Branched(nn.Module):
    """A block with parallel branches of convolutions, each with norm and ReLU."""

    branches: Branches
    layers: Layers

    def applied(self, x: jax.Array, *, train: bool) -> Iterator[Branch]:
        """The branches, applied to [B, H, W, C] but for their last layers."""
        return (self.apply_branch(x, *branch, train=train) for branch in self.branches)

    def apply_branch(self, x: jax.Array, *branch: BranchLayer, train: bool) -> Branch:
        """A branch, applied to x but for its last layer."""
        *others, last = map(self.layer, branch)
        for layer in others:
            x = layer(x, train=train)
        return last, x

    def layer(self, layer: BranchLayer) -> ConvNorm:
        """The module of a layer."""
        name, features, kernel_size, stride = layer
        return self.layers.conv_norm(features, kernel_size, stride, "same" if stride == 1 else 0, name=name)


STEM = {
    "conv1a": (32, 3, 2),
    "conv2a": (32, 3),
    "conv2b": (64, 3, 1, 1),
    "conv3b": (80, 1),
    "conv4a": (192, 3),
}
"""The first convolutions of Inception v3 and Inception-ResNet v2: features, kernel, stride, padding."""


def inception_stem(layers: Layers) -> list[ConvNorm]:
    """The layers of STEM."""
    return [layers.conv_norm(*sizes, name=name) for name, sizes in STEM.items()]


def apply_inception_stem(stem: Sequence[ConvNorm], x: jax.Array, layers: Layers, *, train: bool) -> jax.Array:
    """[B, H, W, 3] -> [B, h, w, 192], about 1/8 of the size: max pooling follows the third and the last."""
    for number, conv in enumerate(stem, 1):
        x = conv(x, train=train)
        if number in (3, 5):
            x = layers.max_pool(x, 3, stride=2)
    return x
