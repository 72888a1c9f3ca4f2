"""Converts between our variables and PyTorch state dicts, bit for bit.

Convolution kernels change from [kh, kw, C_in, C_out] to [C_out, C_in, kh, kw], dense kernels from [in, out]
to [out, in]. For a dense layer that follows a flatten, the inputs also change from (H, W, C) to (C, H, W)
order.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxnets.interop.torch_names import BY_NETWORK

Tree = Mapping[str, Any]
Arrays = dict[str, np.ndarray]

LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def to_torch(network: str, tree: Tree) -> Arrays:
    """Converts one collection (parameters, gradients, optimizer moments or batch statistics)."""
    return {
        torch_name(network, path): transposed_to_torch(network, path, np.asarray(leaf))
        for path, leaf in traverse_util.flatten_dict(dict(tree), sep="/").items()
    }


def from_torch(network: str, arrays: Mapping[str, np.ndarray], like: Tree) -> dict[str, Any]:
    """Converts PyTorch's arrays to a collection with the structure of `like`.

    Ignores arrays that `like` does not contain. Raises KeyError if an array is missing.
    """
    flat = traverse_util.flatten_dict(dict(like), sep="/")
    leaves = {
        path: transposed_from_torch(network, path, np.asarray(arrays[torch_name(network, path)]))
        for path in flat
    }
    return traverse_util.unflatten_dict(leaves, sep="/")


def torch_name(network: str, path: str) -> str:
    """PyTorch's name of the array at `path` ("conv1/kernel")."""
    module, _, leaf = path.rpartition("/")
    return f"{BY_NETWORK[network].module(module)}.{LEAVES[leaf]}"


def transposed_to_torch(network: str, path: str, array: np.ndarray) -> np.ndarray:
    """Our array at `path` in PyTorch's layout."""
    if path.endswith("kernel"):
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        else:
            if channels := _flattened_channels(network, path):
                rows = array.reshape(-1, channels, array.shape[1])
                array = rows.transpose(1, 0, 2).reshape(array.shape)
            array = array.T
    return array.copy()


def transposed_from_torch(network: str, path: str, array: np.ndarray) -> np.ndarray:
    """PyTorch's array at `path` in our layout."""
    if path.endswith("kernel"):
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        else:
            array = array.T
            if channels := _flattened_channels(network, path):
                rows = array.reshape(channels, -1, array.shape[1])
                array = rows.transpose(1, 0, 2).reshape(array.shape)
    return array.copy()


def _flattened_channels(network: str, path: str) -> int | None:
    return BY_NETWORK[network].flattened.get(path.removesuffix("/kernel"))
