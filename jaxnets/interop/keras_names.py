"""Layer names of keras.applications, and the order of convolutions by which it and TensorFlow number them.

Where Keras numbers layers, the numbers start at the network's own first layer.
"""

import functools
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from jaxnets.models import inception_resnet_v2

WITHOUT_SCALE = ("inception_v3", "inception_resnet_v2")
"""Networks whose batch normalisation has no gamma in Keras."""


def _chain(branch: str, count: int) -> tuple[str, ...]:
    return tuple(f"{branch}_{number}" for number in range(1, count + 1))


V3_STEM = ("conv1a", "conv2a", "conv2b", "conv3b", "conv4a")
_BLOCK_A = ("branch1x1", *_chain("branch5x5", 2), *_chain("branch3x3dbl", 3), "branch_pool")
_BLOCK_B = ("branch3x3", *_chain("branch3x3dbl", 3))
_BLOCK_C = ("branch1x1", *_chain("branch7x7", 3), *_chain("branch7x7dbl", 5), "branch_pool")
_BLOCK_D = (*_chain("branch3x3", 2), *_chain("branch7x7x3", 4))
_BLOCK_E = (
    "branch1x1",
    *("branch3x3_1", "branch3x3_2a", "branch3x3_2b"),
    *("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a", "branch3x3dbl_3b"),
    "branch_pool",
)
V3_BLOCKS = {
    **dict.fromkeys(("mixed5b", "mixed5c", "mixed5d"), _BLOCK_A),
    "mixed6a": _BLOCK_B,
    **dict.fromkeys(("mixed6b", "mixed6c", "mixed6d", "mixed6e"), _BLOCK_C),
    "mixed7a": _BLOCK_D,
    **dict.fromkeys(("mixed7b", "mixed7c"), _BLOCK_E),
}
"""The convolutions of each block of Inception v3, in order."""
V3_ORDER = (*V3_STEM, *(f"{block}/{conv}" for block, convs in V3_BLOCKS.items() for conv in convs))
"""Paths of the modules of Inception v3 that hold a convolution and its norm, in Keras's order."""

DENSENET_OUTER = {
    "conv0": "conv1_conv",
    "norm0": "conv1_bn",
    "norm5": "bn",
    "classifier": "predictions",
}
DENSENET_LAYER = {"norm1": "0_bn", "conv1": "1_conv", "norm2": "1_bn", "conv2": "2_conv"}

INCEPTION_RESNET_BLOCKS = {
    "a": ("block35", 10, inception_resnet_v2.INCEPTION_RESNET_A),
    "b": ("block17", 20, inception_resnet_v2.INCEPTION_RESNET_B),
    "c": ("block8", 10, inception_resnet_v2.INCEPTION_RESNET_C),
}
"""Keras's name, the number of blocks and the branches of each kind of residual block."""
REDUCTIONS = {"a": inception_resnet_v2.REDUCTION_A, "b": inception_resnet_v2.REDUCTION_B}


def _resnet(path: str) -> str:
    if path == "classifier":
        return "predictions"
    block = re.fullmatch(r"stage(\d+)_block(\d+)/(\w+)", path)
    prefix, name = "conv1", path
    if block is not None:
        stage, number, name = block.groups()
        position = "0" if name.startswith("projection") else name[-1]
        prefix = f"conv{int(stage) + 1}_block{number}_{position}"
    return f"{prefix}_bn" if "norm" in name else f"{prefix}_conv"


def _densenet(path: str) -> str:
    layer = re.fullmatch(r"dense_block(\d+)/layer(\d+)/(\w+)", path)
    if layer is not None:
        return f"conv{int(layer[1]) + 1}_block{layer[2]}_{DENSENET_LAYER[layer[3]]}"
    transition = re.fullmatch(r"transition(\d+)/(norm|conv)", path)
    if transition is not None:
        return f"pool{int(transition[1]) + 1}_{transition[2].replace('norm', 'bn')}"
    return DENSENET_OUTER[path]


def _inception_v3(path: str) -> str:
    """Raises KeyError for the auxiliary classifier, which Keras's network does not have."""
    if path == "classifier":
        return "predictions"
    module, _, kind = path.rpartition("/")
    if module not in V3_ORDER:
        raise KeyError(path)
    return _numbered(kind, V3_ORDER.index(module))


def _inception_resnet_v2(path: str) -> str:
    if path == "classifier":
        return "predictions"
    module, _, kind = path.rpartition("/")
    if kind == "projection":
        block = re.fullmatch(r"inception_resnet_([abc])(\d+)", module)
        assert block is not None
        return f"{INCEPTION_RESNET_BLOCKS[block[1]][0]}_{block[2]}_conv"
    if module == "conv7b":
        return "conv_7b_bn" if kind == "norm" else "conv_7b"
    return _numbered(kind, _inception_resnet_order().index(module))


@functools.cache
def _inception_resnet_order() -> tuple[str, ...]:
    """The numbered convolutions in the order in which Keras creates them."""
    order = [
        *V3_STEM,
        *_convolutions("mixed5b", inception_resnet_v2.MIXED_5B),
        "mixed5b/pooled_conv",
    ]
    for kind, (_, repeats, branches) in INCEPTION_RESNET_BLOCKS.items():
        for number in range(1, repeats + 1):
            order += _convolutions(f"inception_resnet_{kind}{number}", branches)
        order += _convolutions(f"reduction_{kind}", REDUCTIONS.get(kind, ()))
    return tuple(order)


def _convolutions(block: str, branches: inception_resnet_v2.Branches) -> list[str]:
    return [
        f"{block}/branch{number}_conv{conv}"
        for number, branch in enumerate(branches)
        for conv in range(len(branch))
    ]


def _numbered(kind: str, number: int) -> str:
    """Keras omits the number 0."""
    name = "batch_normalization" if kind == "norm" else "conv2d"
    return f"{name}_{number}" if number else name


BY_NETWORK: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "resnet50": _resnet,
        "inception_v3": _inception_v3,
        "inception_resnet_v2": _inception_resnet_v2,
        "densenet121": _densenet,
    }
)
"""Maps a module's path ("stage1_block2/conv1") to the layer's name, by the network's name."""
