"""Inception v3 as TensorFlow published it on 2015-12-05: its names, batch norm folded into the kernels.

Blocks are mixed, mixed_1, ..., mixed_10. Its last block takes a maximum where the paper and later versions
take an average, so that layers after mixed_9 are those of a slightly other network.
"""

import re

from jaxnets.interop.inception_order import BLOCKS, STEM

BRANCHES = {
    "branch1x1": "conv",
    "branch3x3": "conv",
    "branch5x5": "tower",
    "branch7x7": "tower",
    "branch3x3dbl": "tower_1",
    "branch7x7dbl": "tower_1",
    "branch7x7x3": "tower_1",
    "branch_pool": "tower_2_conv",
}
EXPANDED = {"2a": "mixed_conv", "2b": "mixed_conv_1", "3a": "mixed_conv", "3b": "mixed_conv_1"}


def array_name(path: str) -> str:
    """The name of our array at `path` ("mixed5b/branch5x5_1/conv/kernel"); none of a norm is in the file.

    Raises KeyError for the auxiliary classifier.
    """
    if path.startswith("auxiliary"):
        raise KeyError(path)
    module, _, leaf = path.rpartition("/")
    if module == "classifier":
        return f"softmax.{leaf}"
    place, _, kind = module.rpartition("/")
    return (
        f"{_convolution(place)}.{leaf}" if kind == "conv" else f"{_convolution(place)}.norm.{leaf}"
    )


def _convolution(place: str) -> str:
    if place in STEM:
        number = STEM.index(place)
        return f"conv_{number}" if number else "conv"
    block, name = place.split("/")
    number = list(BLOCKS).index(block)
    prefix = f"mixed_{number}" if number else "mixed"
    layer = re.fullmatch(r"(branch\w+?)_(\d[ab]?)", name)
    if layer is None:
        return f"{prefix}_{BRANCHES[name]}"
    branch, step = layer.groups()
    # A tower's number is its place among the block's towers.
    first = branch == "branch3x3" or block == "mixed6a"
    tower = "tower" if first else BRANCHES[branch]
    if step in EXPANDED:
        return f"{prefix}_{tower}_{EXPANDED[step]}"
    return f"{prefix}_{tower}_conv" + (f"_{int(step) - 1}" if step != "1" else "")
