"""Trains a network that is not part of the package.

python scripts/train.py --config=examples/own_network.py
python scripts/predict.py --workdir=runs/own_network-s0 --import=examples/own_network.py IMAGE
"""

import flax.linen as nn

from jaxnets import models
from jaxnets.config import default_config
from jaxnets.models.base import Entry, Network


class SmallNetwork(Network):
    """Three convolutions with batch norm: [B, H, W, C] -> [B, num_classes]."""

    width: int = 32

    def setup(self):
        layers = self.layers()
        self.convs = [layers.conv(self.width * 2**i, 3, stride=2, padding=1) for i in range(3)]
        self.norms = [layers.norm() for _ in range(3)]
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def features(self, x, *, train):
        """[B, H, W, C] -> [B, H / 8, W / 8, 4 * width]; `head` averages them and classifies."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nn.relu(norm(conv(x), train=train))
        return x


ENTRY = Entry("small network", SmallNetwork, fields=("width",), smallest=8, native_size=64)
models.register("small", ENTRY)


def get_config():
    """Returns the config: synthetic tissue, a minute on two cores."""
    config = default_config()
    config.name = "own_network"
    config.model.name = "small"
    config.model.width = 16
    config.data.name = "synthetic_tissue"
    config.data.num_examples = 600
    config.data.image_size = 64
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.train.batch_size = 32
    config.schedule.name = "cosine"
    config.train.epochs = 10
    return config
