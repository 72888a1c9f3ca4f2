"""ResNet as torchvision and timm name it."""

import re

PROJECTION = {"projection": "downsample.0", "projection_norm": "downsample.1"}


def module_name(path: str) -> str:
    """The name in torchvision of a module of ResNet, such as stage1_block2/norm3."""
    if path == "classifier":
        return "fc"
    block = re.fullmatch(r"stage(\d+)_block(\d+)/(\w+)", path)
    if block is None:
        return path.replace("norm", "bn")
    stage, number, name = block.groups()
    inner = PROJECTION.get(name, name.replace("norm", "bn"))
    return f"layer{stage}.{int(number) - 1}.{inner}"
