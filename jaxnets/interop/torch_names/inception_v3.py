"""Inception v3 as torchvision and timm name it."""

import re

PLACES = {
    "conv1a": "Conv2d_1a_3x3",
    "conv2a": "Conv2d_2a_3x3",
    "conv2b": "Conv2d_2b_3x3",
    "conv3b": "Conv2d_3b_1x1",
    "conv4a": "Conv2d_4a_3x3",
    "auxiliary": "AuxLogits",
}


def module_name(path: str) -> str:
    """The name in torchvision of a module of InceptionV3, such as mixed5b/branch5x5_1/norm."""
    *places, last = path.split("/")
    if last == "classifier":
        return ".".join([*(PLACES[place] for place in places), "fc"])
    first, *inner = places
    outer = PLACES.get(first, re.sub(r"^mixed", "Mixed_", first))
    return ".".join([outer, *inner, last.replace("norm", "bn")])
