"""Array names of TensorFlow's Inception v3 of 2015-12-05, in which batch norm is folded into the kernels.

The blocks are mixed, mixed_1, ..., mixed_10. The last block uses max pooling where the paper and later
versions use average pooling, so the layers after mixed_9 belong to a slightly different network.
"""

import re

from jaxnets.interop.keras_names import V3_BLOCKS, V3_STEM

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
    """The file's name of our array at `path` ("mixed5b/branch5x5_1/conv/kernel").

    The file has no arrays of batch norms; their names match nothing. Raises KeyError for the auxiliary
    classifier.
    """
    if path.startswith("auxiliary"):
        raise KeyError(path)
    module, _, leaf = path.rpartition("/")
    if module == "classifier":
        return f"softmax.{leaf}"
    parent, _, kind = module.rpartition("/")
    suffix = "" if kind == "conv" else ".norm"
    return f"{_convolution(parent)}{suffix}.{leaf}"


def _convolution(module: str) -> str:
    if module in V3_STEM:
        number = V3_STEM.index(module)
        return f"conv_{number}" if number else "conv"
    block, name = module.split("/")
    number = list(V3_BLOCKS).index(block)
    prefix = f"mixed_{number}" if number else "mixed"
    layer = re.fullmatch(r"(branch\w+?)_(\d[ab]?)", name)
    if layer is None:
        return f"{prefix}_{BRANCHES[name]}"
    branch, step = layer.groups()
    # Towers are numbered in the order in which they appear in the block.
    is_first = branch == "branch3x3" or block == "mixed6a"
    tower = "tower" if is_first else BRANCHES[branch]
    if step in EXPANDED:
        return f"{prefix}_{tower}_{EXPANDED[step]}"
    return f"{prefix}_{tower}_conv" + (f"_{int(step) - 1}" if step != "1" else "")
