"""Inception-ResNet v2, with 10, 20 and 10 residual blocks, as timm names it."""

import re

PLACES = {
    "mixed5b": "mixed_5b",
    "reduction_a": "mixed_6a",
    "reduction_b": "mixed_7a",
    "inception_resnet_c10": "block8",
    "norm": "bn",
    "projection": "conv2d",
    "pooled_conv": "branch3.1",
    "classifier": "classif",
}
REPEATS = {"a": "repeat", "b": "repeat_1", "c": "repeat_2"}


def module_name(path: str) -> str:
    """The name in timm of a module of InceptionResNetV2, such as mixed5b/branch1_conv0/norm."""
    block, *inner = path.split("/")
    return ".".join([_outer(block), *(_inner(block, name) for name in inner)])


def _outer(block: str) -> str:
    residual = re.fullmatch(r"inception_resnet_([abc])(\d+)", block)
    if block in PLACES or residual is None:
        return PLACES.get(block, re.sub(r"^conv", "conv2d_", block))
    return f"{REPEATS[residual[1]]}.{int(residual[2]) - 1}"


def _inner(block: str, name: str) -> str:
    place = re.fullmatch(r"branch(\d)_conv(\d)", name)
    if place is None:
        return PLACES.get(name, name)
    # A branch of one convolution is that convolution, not a sequence of one.
    alone = place[1] == "0" and block != "reduction_b"
    return "branch0" if alone else f"branch{place[1]}.{place[2]}"
