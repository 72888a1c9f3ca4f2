"""PyTorch's network of a recipe, and our weights in it. Imports no JAX: the bench's PyTorch side has none."""

from collections.abc import Mapping

import numpy as np
import torch
from ml_collections import config_dict

from jaxnets.bench.oracles import load

COUNTER = "num_batches_tracked"
"""What PyTorch's batch normalisation counts and, at a fixed momentum, never uses."""


def make_network(model: config_dict.ConfigDict) -> torch.nn.Module:
    """The network of `config.model`: the reports' listing, or torchvision's."""
    if model.name == "lenet5":
        return load("lenet5").LeNet5(model.num_classes)
    return load("resnet").resnet(model.num_classes, tuple(model.stage_sizes), model.width)


def load_arrays(network: torch.nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Fills a network; raises RuntimeError unless the names and shapes are its own."""
    counters = {name: buffer for name, buffer in network.named_buffers() if name.endswith(COUNTER)}
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    network.load_state_dict({**counters, **tensors})
