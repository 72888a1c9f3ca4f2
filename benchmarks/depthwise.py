"""A small network of inverted residual blocks, which measures depthwise convolutions in a network."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxnets import models, ops
from jaxnets.interop import weights
from jaxnets.models.base import Entry, Layers, Network

NAME = "depthwise"
STEM, EXPANSION = 16, 6
BLOCKS = ((24, 2), (24, 1), (32, 2), (32, 1), (64, 2), (64, 1))
"""(output channels, stride) of each block, as in MobileNetV2 up to its first blocks with 64 channels."""
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
"""PyTorch's names of parameters and statistics that have another name."""


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3, 1x1 projection: [B, H, W, C] -> [B, H/s, W/s, features].

    The input is added where the shapes are the same.
    """

    features: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        conv, norm, width = self.layers.conv, self.layers.norm, EXPANSION * x.shape[-1]
        conv_norm = functools.partial(ops.conv_norm, train=train)
        y = conv_norm(conv(width, 1, name="conv1"), norm(name="norm1"), x, relu=True)
        conv2 = conv(width, 3, stride=self.stride, padding=1, groups=width, name="conv2")
        y = conv_norm(conv2, norm(name="norm2"), y, relu=True)
        residual = x if (self.stride, self.features) == (1, x.shape[-1]) else None
        return conv_norm(conv(self.features, 1, name="conv3"), norm(name="norm3"), y, residual=residual)


class DepthwiseNetwork(Network):
    """Stem, inverted residual blocks, global average, classifier: [B, H, W, 3] -> [B, num_classes].

    It has ReLU instead of ReLU6.

    References:
        Sandler et al. 2018, MobileNetV2, arXiv:1801.04381.
    """

    def setup(self) -> None:
        layers = self.layers()
        self.conv1 = layers.conv(STEM, 3, stride=2, padding=1)
        self.norm1 = layers.norm()
        self.blocks = [
            InvertedResidual(features, stride, layers, name=f"block{number}")
            for number, (features, stride) in enumerate(BLOCKS)
        ]
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, 3] -> [B, ceil(H / 16), ceil(W / 16), 64]."""
        x = ops.conv_norm(self.conv1, self.norm1, x, train=train, relu=True)
        for block in self.blocks:
            x = block(x, train=train)
        return x


ENTRY = Entry("inverted residual blocks", DepthwiseNetwork)


def register() -> None:
    """Registers the network in this process, unless it is registered."""
    if NAME not in models.REGISTRY:
        models.register(NAME, ENTRY)


def to_torch(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts parameters or statistics to those of tests/oracles/depthwise.py, with the same modules."""
    return {
        ".".join((*modules, LEAVES.get(leaf, leaf))): _transpose(np.asarray(array))
        for path, array in weights.flatten(tree).items()
        for *modules, leaf in [path.split("/")]
    }


def _transpose(array: np.ndarray) -> np.ndarray:
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
    return np.ascontiguousarray(array.transpose(axes))
