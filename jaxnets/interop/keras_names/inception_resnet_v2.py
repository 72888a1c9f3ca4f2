"""Inception-ResNet v2, with 10, 20 and 10 residual blocks, as keras.applications numbers and names it."""

import re

from jaxnets.interop.keras_names.inception_v3 import numbered
from jaxnets.models import inception_resnet_v2 as network

REPEATS = {"a": 10, "b": 20, "c": 10}
RESIDUAL = {"a": "block35", "b": "block17", "c": "block8"}
BRANCHES = {
    "a": network.INCEPTION_RESNET_A,
    "b": network.INCEPTION_RESNET_B,
    "c": network.INCEPTION_RESNET_C,
}


def layer_name(path: str) -> str:
    """The name in Keras of a module of InceptionResNetV2, such as mixed5b/branch1_conv0/norm."""
    if path == "classifier":
        return "predictions"
    place, _, kind = path.rpartition("/")
    if kind == "projection":
        block = re.fullmatch(r"inception_resnet_([abc])(\d+)", place)
        assert block is not None
        return f"{RESIDUAL[block[1]]}_{block[2]}_conv"
    if place == "conv7b":
        return "conv_7b_bn" if kind == "norm" else "conv_7b"
    return numbered("batch_normalization" if kind == "norm" else "conv2d", _order().index(place))


def _order() -> list[str]:
    """The numbered convolutions in the order in which Keras makes them."""
    order = ["conv1a", "conv2a", "conv2b", "conv3b", "conv4a"]
    order += [*_places("mixed5b", network.MIXED_5B), "mixed5b/pooled_conv"]
    for kind, reduction in (
        ("a", ("reduction_a", network.REDUCTION_A)),
        ("b", ("reduction_b", network.REDUCTION_B)),
        ("c", None),
    ):
        for number in range(1, REPEATS[kind] + 1):
            order += _places(f"inception_resnet_{kind}{number}", BRANCHES[kind])
        order += _places(*reduction) if reduction else []
    return order


def _places(block: str, branches: network.Branches) -> list[str]:
    return [
        f"{block}/branch{number}_conv{place}"
        for number, branch in enumerate(branches)
        for place in range(len(branch))
    ]
