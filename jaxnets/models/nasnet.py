"""NASNet-A (Zoph et al. 2017, arXiv:1707.07012) for mobile devices, in Keras's form."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.models.base import Entry, Layers, Network
from jaxnets.models.xception import SeparableConvNorm
from jaxnets.ops.initializers import GLOROT
from jaxnets.ops.windows import same_padding


class SeparableBlock(nn.Module):
    """ReLU, separable convolution and norm, twice (appendix A.4): [B, H, W, C] -> [B, H/s, W/s, features].

    The stride is that of the first convolution.
    """

    layers: Layers
    features: int
    kernel_size: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, residual: jax.Array | None = None) -> jax.Array:
        make = functools.partial(SeparableConvNorm, self.layers, self.features, self.kernel_size)
        x = make(self.stride, name="sepconv1")(nn.relu(x), train=train, relu=True)
        return make(name="sepconv2")(x, train=train, residual=residual)


class Adjust(nn.Module):
    """Gives `previous` the size of x, and `features` channels unless both are as they should be.

    [B, h, w, C] -> [B, H, W, features]: a 1x1 convolution, or two of half the channels if x is half as large;
    these read every second pixel, the one from the first pixel and the other from its diagonal neighbour.
    """

    layers: Layers
    features: int

    @nn.compact
    def __call__(self, previous: jax.Array, x: jax.Array, *, train: bool) -> jax.Array:
        conv, norm = self.layers.conv, self.layers.norm
        if previous.shape[1:3] == x.shape[1:3]:
            if previous.shape[-1] == self.features:
                return previous
            projection = conv(self.features, 1, name="conv")
            return ops.conv_norm(projection, norm(name="norm"), nn.relu(previous), train=train)
        y = nn.relu(previous)
        shifted = jnp.pad(y[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
        halves = [
            conv(self.features // 2, 1, stride=2, name=f"conv{number}")(part)
            for number, part in enumerate((y, shifted), 1)
        ]
        return norm(name="norm")(jnp.concatenate(halves, axis=-1), train=train)


class Cell(nn.Module):
    """A cell of figure 4: x [B, H, W, C] and the input of the cell before it -> [B, h, w, C'].

    Both are brought to `features` channels: x as `hidden`, the other by Adjust unless it is None, which
    stands for x itself. Subclasses add pairs of operations.
    """

    layers: Layers
    features: int

    @nn.compact
    def __call__(self, x: jax.Array, previous: jax.Array | None, *, train: bool) -> jax.Array:
        squeeze = self.layers.conv_norm(self.features, 1, activation="identity", name="squeeze")
        hidden = squeeze(nn.relu(x), train=train)
        if previous is None:
            previous = x
        else:
            previous = Adjust(self.layers, self.features, name="adjust")(previous, x, train=train)
        return jnp.concatenate(self.parts(hidden, previous, train=train), axis=-1)

    def parts(self, hidden: jax.Array, previous: jax.Array, *, train: bool) -> list[jax.Array]:
        """The sums of pairs of operations [B, h, w, features] that the cell concatenates."""
        raise NotImplementedError

    def separable(self, name: str, kernel_size: int, stride: int = 1) -> SeparableBlock:
        """A separable convolution, done twice."""
        return SeparableBlock(self.layers, self.features, kernel_size, stride, name=name)

    def average(self, x: jax.Array) -> jax.Array:
        """The 3x3 average without the padding: [B, H, W, C] -> [B, H, W, C]."""
        return self.layers.average_pool(x, 3, stride=1, padding=1, count_include_pad=False)


class NormalCell(Cell):
    """[B, H, W, C] -> [B, H, W, 6 * features]."""

    def parts(self, hidden: jax.Array, previous: jax.Array, *, train: bool) -> list[jax.Array]:
        """`previous` and the five sums of figure 4, left."""
        y1 = self.separable("left1", 5)(hidden, train=train)
        y1 = self.separable("right1", 3)(previous, train=train, residual=y1)
        y2 = self.separable("left2", 5)(previous, train=train)
        y2 = self.separable("right2", 3)(previous, train=train, residual=y2)
        y3 = self.average(hidden) + previous
        y4 = 2 * self.average(previous)
        y5 = self.separable("left5", 3)(hidden, train=train, residual=hidden)
        return [previous, y1, y2, y3, y4, y5]


class ReductionCell(Cell):
    """[B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), 4 * features]."""

    def parts(self, hidden: jax.Array, previous: jax.Array, *, train: bool) -> list[jax.Array]:
        """The last four of the five sums of figure 4, right; its poolings count the padding as zeros."""
        padding = same_padding(hidden.shape[1:3], (3, 3), (2, 2))
        padded = jnp.pad(hidden, ((0, 0), *padding, (0, 0)))
        largest = self.layers.max_pool(padded, 3, stride=2)
        y1 = self.separable("left1", 5, 2)(hidden, train=train)
        y1 = self.separable("right1", 7, 2)(previous, train=train, residual=y1)
        y2 = self.separable("right2", 7, 2)(previous, train=train, residual=largest)
        average = self.layers.average_pool(padded, 3, stride=2)
        y3 = self.separable("right3", 5, 2)(previous, train=train, residual=average)
        y4 = self.average(y1) + y2
        y5 = self.separable("left4", 3)(y1, train=train, residual=largest)
        return [y2, y3, y4, y5]


class NASNet(Network):
    """Stem, three stages of normal cells, global average, classifier: [B, H, W, 3] -> [B, num_classes].

    Two reduction cells belong to the stem, and one stands between stages. `cells` 4 per stage with `width`
    44 is NASNet-A (4 @ 1056), Keras's NASNetMobile: 5,289,978 parameters with 1000 classes. H and W are at
    least 32, as in Keras. The running statistics are updated as PyTorch's (Keras: momentum 0.0003, biased
    variance); there is no drop path and no auxiliary head, as in Keras.

    References:
        Zoph et al. 2017, arXiv:1707.07012.
    """

    epsilons = 1e-3

    cells: int = 4
    width: int = 44

    def setup(self) -> None:
        # Keras's 1x1 convolutions begin with He normal.
        layers, width, count = self.layers(conv=GLOROT, dense=GLOROT), self.width, self.cells
        self.stem = layers.conv_norm(32, 3, stride=2, activation="identity")
        blocks: list[Cell] = [
            ReductionCell(layers, width // 4, name="reduction_stem_1"),
            ReductionCell(layers, width // 2, name="reduction_stem_2"),
        ]
        for stage in range(3):
            first, features = stage * count + (stage > 0), width * 2**stage  # numbers as in Keras
            if stage > 0:
                blocks.append(ReductionCell(layers, features, name=f"reduction_reduce_{stage * count}"))
            blocks += [
                NormalCell(layers, features, name=f"normal_{number}")
                for number in range(first, first + count)
            ]
        self.blocks = blocks
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, h, w, 24 * width], after the last ReLU; 224 px give 7x7."""
        x, previous = self.stem(x, train=train), None
        for block in self.blocks:
            x, previous = block(x, previous, train=train), x
        return nn.relu(x)


ENTRY = Entry("NASNet-A mobile", NASNet, smallest=32, averages=True)
