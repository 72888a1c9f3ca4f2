"""DenseNet as keras.applications names it."""

import re

PLACES = {
    "conv0": "conv1_conv",
    "norm0": "conv1_bn",
    "norm5": "bn",
    "classifier": "predictions",
}
IN_A_LAYER = {"norm1": "0_bn", "conv1": "1_conv", "norm2": "1_bn", "conv2": "2_conv"}


def layer_name(path: str) -> str:
    """The name in Keras of a module of DenseNet, such as dense_block1/layer2/norm1."""
    layer = re.fullmatch(r"dense_block(\d+)/layer(\d+)/(\w+)", path)
    if layer is not None:
        return f"conv{int(layer[1]) + 1}_block{layer[2]}_{IN_A_LAYER[layer[3]]}"
    transition = re.fullmatch(r"transition(\d+)/(norm|conv)", path)
    if transition is not None:
        kind = "bn" if transition[2] == "norm" else "conv"
        return f"pool{int(transition[1]) + 1}_{kind}"
    return PLACES[path]
