"""Our variables as PyTorch's state dicts and back, and how far two sets of tensors are apart.

A map goes from ("params" or "batch_stats", path) to PyTorch's name. Kernels turn from
[kh, kw, C_in, C_out] to [C_out, C_in, kh, kw], dense kernels from [in, out] to [out, in]. LeNet-5's
first dense layer also turns from rows in (H, W, C) order to columns in (C, H, W) order.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

Tree = Mapping[str, Any]
Arrays = dict[str, np.ndarray]

LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
LENET5 = {"dense1": "fc1", "dense2": "fc2", "classifier": "fc3"}
LENET5_FLATTENED = (4, 4, 16)
"""Height, width and channels that enter LeNet-5's first dense layer, at 28 pixels a side."""


def lenet5_name(module: str) -> str:
    """PyTorch's name of a module of LeNet5."""
    return LENET5.get(module, module)


def resnet_name(module: str) -> str:
    """The name in torchvision of a module of ResNet, such as stage1_block2/norm3."""
    if module == "classifier":
        return "fc"
    block = re.fullmatch(r"stage(\d+)_block(\d+)/(\w+)", module)
    if block is None:
        return module.replace("norm", "bn")
    stage, number, name = block.groups()
    inner = {"projection": "downsample.0", "projection_norm": "downsample.1"}
    return f"layer{stage}.{int(number) - 1}.{inner.get(name, name.replace('norm', 'bn'))}"


NAMES: Mapping[str, Callable[[str], str]] = {"lenet5": lenet5_name, "resnet50": resnet_name}
"""From a module's path to PyTorch's name, by the name of the network in jaxnets.models."""


def to_torch(network: str, tree: Tree) -> Arrays:
    """The arrays of one collection (parameters, gradients, buffers of an optimizer, statistics)."""
    return {
        torch_name(network, path): _to_torch(network, path, np.asarray(leaf))
        for path, leaf in traverse_util.flatten_dict(dict(tree), sep="/").items()
    }


def from_torch(network: str, arrays: Mapping[str, np.ndarray], like: Tree) -> dict[str, Any]:
    """The collection with the structure of `like`, from PyTorch's arrays."""
    flat = traverse_util.flatten_dict(dict(like), sep="/")
    leaves = {
        path: _from_torch(network, path, np.asarray(arrays[torch_name(network, path)]))
        for path in flat
    }
    return traverse_util.unflatten_dict(leaves, sep="/")


def torch_name(network: str, path: str) -> str:
    """PyTorch's name of the array at `path` ("conv1/kernel")."""
    module, _, leaf = path.rpartition("/")
    return f"{NAMES[network](module)}.{LEAVES[leaf]}"


def relative_l2(ours: np.ndarray, theirs: np.ndarray) -> float:
    """|ours - theirs| / |theirs| in the Euclidean norm; 0 where the two are equal, NaN where one is."""
    if np.shape(ours) != np.shape(theirs):
        raise ValueError(f"shapes differ: {np.shape(ours)} and {np.shape(theirs)}")
    difference = np.linalg.norm(np.asarray(ours) - np.asarray(theirs))
    length = np.linalg.norm(theirs)
    if difference == 0:
        return 0.0
    return float(difference / length) if length else math.inf


def distances(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """`relative_l2` by name. Raises KeyError unless both have the same names."""
    if set(ours) != set(theirs):
        raise KeyError(f"one side alone has {sorted(set(ours) ^ set(theirs))}")
    return {name: relative_l2(ours[name], theirs[name]) for name in ours}


def _to_torch(network: str, path: str, array: np.ndarray) -> np.ndarray:
    if path.endswith("kernel") and array.ndim == 4:
        return array.transpose(3, 2, 0, 1).copy()
    if path.endswith("kernel"):
        if (network, path) == ("lenet5", "dense1/kernel"):
            rows = array.reshape(*LENET5_FLATTENED, -1)
            array = rows.transpose(2, 0, 1, 3).reshape(array.shape)
        return array.T.copy()
    return array.copy()


def _from_torch(network: str, path: str, array: np.ndarray) -> np.ndarray:
    if path.endswith("kernel") and array.ndim == 4:
        return array.transpose(2, 3, 1, 0).copy()
    if path.endswith("kernel"):
        array = array.T
        if (network, path) == ("lenet5", "dense1/kernel"):
            height, width, channels = LENET5_FLATTENED
            columns = array.reshape(channels, height, width, -1)
            array = columns.transpose(1, 2, 0, 3).reshape(array.shape)
        return array.copy()
    return array.copy()
