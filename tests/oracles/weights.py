"""Distances between sets of tensors, and conversion from PyTorch's arrays."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxnets.interop.layouts import TORCH


def from_torch(network: str, arrays: Mapping[str, np.ndarray], like: Mapping[str, Any]) -> dict[str, Any]:
    """Returns PyTorch's arrays as a collection with the structure of `like`; ignores other arrays."""
    leaves = {
        path: TORCH.read(network, path, arrays[str(TORCH.name(network, path))]).copy()
        for path in traverse_util.flatten_dict(dict(like), sep="/")
    }
    return traverse_util.unflatten_dict(leaves, sep="/")


def relative_l2(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns |ours - theirs| / |theirs| in the Euclidean norm; 0 if they are equal; propagates NaN."""
    if np.shape(ours) != np.shape(theirs):
        raise ValueError(f"shapes differ: {np.shape(ours)} and {np.shape(theirs)}")
    difference = np.linalg.norm(np.asarray(ours) - np.asarray(theirs))
    length = np.linalg.norm(theirs)
    if difference == 0:
        return 0.0
    return float(difference / length) if length else math.inf


def distances(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns `relative_l2` by name; raises KeyError if the names differ."""
    if set(ours) != set(theirs):
        raise KeyError(f"names in only one of both: {sorted(set(ours) ^ set(theirs))}")
    return {name: relative_l2(ours[name], theirs[name]) for name in ours}
