"""DenseNet as torchvision and timm name it."""

import re


def module_name(path: str) -> str:
    """The name in torchvision of a module of DenseNet, such as dense_block1/layer2/norm1."""
    if path == "classifier":
        return path
    layer = re.fullmatch(r"dense_block(\d+)/layer(\d+)/(\w+)", path)
    if layer is None:
        return "features." + path.replace("/", ".")
    block, number, name = layer.groups()
    return f"features.denseblock{block}.denselayer{number}.{name}"
