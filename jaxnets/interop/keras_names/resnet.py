"""ResNet as keras.applications names it."""

import re


def layer_name(path: str) -> str:
    """The name in Keras of a module of ResNet, such as stage1_block2/norm3."""
    if path == "classifier":
        return "predictions"
    block = re.fullmatch(r"stage(\d+)_block(\d+)/(\w+)", path)
    prefix, name = "conv1", path
    if block is not None:
        stage, number, name = block.groups()
        place = "0" if name.startswith("projection") else name[-1]
        prefix = f"conv{int(stage) + 1}_block{number}_{place}"
    return f"{prefix}_bn" if "norm" in name else f"{prefix}_conv"
