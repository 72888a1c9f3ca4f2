"""The names that each library gives to the modules of MobileNetV2 and the EfficientNets."""

import re
from collections.abc import Callable, Sequence

from jaxnets.interop.names import Names, Rules
from jaxnets.models import efficientnet, mobilenet
from jaxnets.models.mobilenet import Stage, names_of_blocks

BLOCK = r"^stage(\d)_block(\d+)/"


def _numbered(stages: Sequence[Stage], template: str, first: int = 0) -> tuple[str, Callable[..., str]]:
    """The rule of a library that numbers blocks through all stages: block `first` is stage1_block1."""
    numbers = {f"{name}/": first + number for number, (name, *_) in enumerate(names_of_blocks(stages))}
    return BLOCK, lambda found: template.format(numbers[found[0]])


TORCH = {
    "mobilenet_v2": Names(
        (
            ("^classifier$", "classifier.1"),
            ("^stem/", "features.0/"),
            ("^last/", "features.18/"),
            _numbered(mobilenet.STAGES, "features.{}/conv/", first=1),
            # The first block has no expansion.
            (r"^(features\.1/conv/)depthwise", r"\g<1>0"),
            (r"^(features\.1/conv/)project/conv$", r"\g<1>1"),
            (r"^(features\.1/conv/)project/norm$", r"\g<1>2"),
            ("expand", "0"),
            ("depthwise", "1"),
            ("project/conv$", "2"),
            ("project/norm$", "3"),
            ("/conv$", "/0"),
            ("/norm$", "/1"),
        ),
        key="features.17.conv.3.weight",
        variants=("torchvision",),
    ),
    "efficientnet_b0": Names(
        (
            ("^classifier$", "classifier.1"),
            ("^stem/", "features.0/"),
            ("^last/", "features.8/"),
            (BLOCK, lambda found: f"features.{found[1]}.{int(found[2]) - 1}.block/"),
            ("squeeze_excitation/reduce", "squeeze_excitation/fc1"),
            ("squeeze_excitation/expand", "squeeze_excitation/fc2"),
            # The first block has no expansion.
            (r"^(features\.1\..+)depthwise", r"\g<1>0"),
            (r"^(features\.1\..+)squeeze_excitation", r"\g<1>1"),
            (r"^(features\.1\..+)project", r"\g<1>2"),
            ("expand", "0"),
            ("depthwise", "1"),
            ("squeeze_excitation", "2"),
            ("project", "3"),
            ("/conv$", "/0"),
            ("/norm$", "/1"),
        ),
        key="features.7.0.block.2.fc2.weight",
        variants=("torchvision",),
    ),
}

_TIMM: Rules = (
    ("^stem/conv$", "conv_stem"),
    ("^stem/norm$", "bn1"),
    ("^last/conv$", "conv_head"),
    ("^last/norm$", "bn2"),
    (BLOCK, lambda found: f"blocks.{int(found[1]) - 1}.{int(found[2]) - 1}/"),
    ("squeeze_excitation/", "se/conv_"),
    # The first block has no expansion.
    (r"^(blocks\.0.+)depthwise/norm$", r"\1bn1"),
    (r"^(blocks\.0.+)project/conv$", r"\1conv_pw"),
    (r"^(blocks\.0.+)project/norm$", r"\1bn2"),
    ("expand/conv$", "conv_pw"),
    ("expand/norm$", "bn1"),
    ("depthwise/conv$", "conv_dw"),
    ("depthwise/norm$", "bn2"),
    ("project/conv$", "conv_pwl"),
    ("project/norm$", "bn3"),
)
_TIMM_SE = "blocks.2.1.se.conv_expand.weight"  # of B0
TORCH |= {
    "efficientnet_lite0": Names(
        _TIMM, key="blocks.2.1.conv_pwl.weight", absent=("blocks.2.2.conv_pwl.weight", _TIMM_SE)
    ),
    "efficientnet_lite1": Names(_TIMM, key="blocks.2.2.conv_pwl.weight", shape=(40, 240, 1, 1)),
    "efficientnet_lite2": Names(_TIMM, key="blocks.2.2.conv_pwl.weight", shape=(48, 288, 1, 1)),
}
TIMM = {
    "mobilenet_v2": Names(
        _TIMM, key="blocks.2.2.conv_pwl.weight", shape=(32, 192, 1, 1), variants=("torchvision",)
    ),
    "efficientnet_b0": Names(_TIMM, key=_TIMM_SE, variants=("torchvision", "keras")),
}
"""The networks whose names in timm differ from torchvision's."""


def _efficientnet_pytorch(width: float = 1.0, depth: float = 1.0) -> Rules:
    return (
        ("^classifier$", "_fc"),
        ("^stem/conv$", "_conv_stem"),
        ("^stem/norm$", "_bn0"),
        ("^last/conv$", "_conv_head"),
        ("^last/norm$", "_bn1"),
        _numbered(efficientnet.scaled_stages(width, depth), "_blocks.{}."),
        ("squeeze_excitation/", "_se_"),
        ("expand/norm$", "_bn0"),
        ("depthwise/norm$", "_bn1"),
        ("project/norm$", "_bn2"),
        ("(expand|depthwise|project)/conv$", r"_\1_conv"),
    )


_LAST_OF_16, _LAST_OF_21 = "_blocks.15._project_conv.weight", "_blocks.20._project_conv.weight"
_SE = "_blocks.15._se_expand.weight"  # of B0
EFFICIENTNET_PYTORCH = {
    "efficientnet_b0": Names(_efficientnet_pytorch(), key=_SE, absent=(_LAST_OF_21,), variants=("keras",)),
    "efficientnet_lite0": Names(_efficientnet_pytorch(), key=_LAST_OF_16, absent=(_SE, _LAST_OF_21)),
    "efficientnet_lite1": Names(_efficientnet_pytorch(depth=1.1), key=_LAST_OF_21, shape=(320, 1152, 1, 1)),
    "efficientnet_lite2": Names(
        _efficientnet_pytorch(width=1.1, depth=1.2), key=_LAST_OF_21, shape=(352, 1248, 1, 1)
    ),
}
"""The names of https://github.com/lukemelas/EfficientNet-PyTorch."""


def _keras_block(found: re.Match[str]) -> str:
    return f"block{found[1]}{'abcdefgh'[int(found[2]) - 1]}_"


KERAS = {
    "mobilenet_v2": Names(
        (
            ("^classifier$", "predictions"),
            ("^stem/conv$", "Conv1"),
            ("^stem/norm$", "bn_Conv1"),
            ("^last/conv$", "Conv_1"),
            ("^last/norm$", "Conv_1_bn"),
            ("^stage1_block1/", "expanded_conv_"),
            _numbered(mobilenet.STAGES, "block_{}_"),
            ("(expand|depthwise|project)/conv$", r"\1"),
            ("(expand|depthwise|project)/norm$", r"\1_BN"),
        ),
        key="block_16_project/kernel",
        variants=("keras",),
    ),
    "efficientnet_b0": Names(
        (
            ("^classifier$", "predictions"),
            ("^last/", "top/"),
            (BLOCK, _keras_block),
            ("squeeze_excitation/", "se_"),
            ("depthwise/conv$", "dwconv"),
            ("depthwise/norm$", "bn"),
            ("/conv$", "_conv"),
            ("/norm$", "_bn"),
        ),
        key="block7a_se_expand/kernel",
        variants=("keras",),
    ),
}
