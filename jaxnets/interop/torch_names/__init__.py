"""What PyTorch's libraries call the modules of our networks, a file for each network."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from jaxnets.interop.torch_names import (
    alexnet,
    densenet,
    inception_resnet_v2,
    inception_v1,
    inception_v3,
    lenet,
    resnet,
)


class TorchNames(NamedTuple):
    """A network's map.

    `module` goes from a module's path ("stage1_block2/conv1") to PyTorch's name. `flattened` has the dense
    layers that see a flattened map, by path, and how many channels the map has.
    """

    module: Callable[[str], str]
    flattened: Mapping[str, int] = MappingProxyType({})


BY_NETWORK: Mapping[str, TorchNames] = MappingProxyType(
    {
        "lenet5": TorchNames(lenet.module_name, lenet.FLATTENED),
        "alexnet": TorchNames(alexnet.module_name, alexnet.FLATTENED),
        "resnet50": TorchNames(resnet.module_name),
        "inception_v1": TorchNames(inception_v1.module_name, inception_v1.FLATTENED),
        "inception_v3": TorchNames(inception_v3.module_name),
        "inception_resnet_v2": TorchNames(inception_resnet_v2.module_name),
        "densenet121": TorchNames(densenet.module_name),
    }
)
"""By the name of the network in jaxnets.models."""
