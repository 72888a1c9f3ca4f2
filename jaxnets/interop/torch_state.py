"""Our variables as PyTorch's state dicts and back, equal to the bit.

Kernels turn from [kh, kw, C_in, C_out] to [C_out, C_in, kh, kw], dense kernels from [in, out] to [out, in].
A dense layer after a flatten also turns from rows in (H, W, C) order to columns in (C, H, W) order.
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
    """The arrays of one collection (parameters, gradients, buffers of an optimizer, statistics)."""
    return {
        torch_name(network, path): transposed_to_torch(network, path, np.asarray(leaf))
        for path, leaf in traverse_util.flatten_dict(dict(tree), sep="/").items()
    }


def from_torch(network: str, arrays: Mapping[str, np.ndarray], like: Tree) -> dict[str, Any]:
    """The collection with the structure of `like`, from PyTorch's arrays.

    Raises KeyError where an array is missing, and leaves out those that `like` has no place for.
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
    """Our array at `path` as PyTorch lays it out."""
    if not path.endswith("kernel"):
        return array.copy()
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1).copy()
    channels = _flattened_channels(network, path)
    if channels is not None:
        rows = array.reshape(-1, channels, array.shape[1])
        array = rows.transpose(1, 0, 2).reshape(array.shape)
    return array.T.copy()


def transposed_from_torch(network: str, path: str, array: np.ndarray) -> np.ndarray:
    """PyTorch's array at `path` as ours."""
    if not path.endswith("kernel"):
        return array.copy()
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0).copy()
    array = array.T
    channels = _flattened_channels(network, path)
    if channels is not None:
        rows = array.reshape(channels, -1, array.shape[1])
        array = rows.transpose(1, 0, 2).reshape(array.shape)
    return array.copy()


def _flattened_channels(network: str, path: str) -> int | None:
    return BY_NETWORK[network].flattened.get(path.removesuffix("/kernel"))
