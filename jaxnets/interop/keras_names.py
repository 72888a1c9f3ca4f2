"""The names that keras.applications and TensorFlow's Inception v3 of 2015 give to our modules."""

import re
from collections.abc import Callable
from typing import Any

from jaxnets.interop.names import Names, Rules
from jaxnets.models import inception_resnet_v2, inception_v3, xception
from jaxnets.models.inception import STEM, Branches


def _convolutions(block: str, branches: Branches, *others: str) -> list[str]:
    names = [layer.name for branch in branches for layer in branch]
    return [f"{block}/{name}" for name in (*names, *others)]


def _inception_v3_order() -> list[str]:
    order = list(STEM)
    for block, (branches, pool_features) in inception_v3.BLOCKS.items():
        order += _convolutions(block, branches, *(("branch_pool",) if pool_features else ()))
    return order


def _inception_resnet_v2_order() -> list[str]:
    blocks: Any = inception_resnet_v2.InceptionResNetV2(num_classes=1000).bind({}).blocks
    order = [*STEM, *_convolutions("mixed5b", inception_resnet_v2.MIXED_5B, "pooled_conv")]
    return order + [name for block in blocks for name in _convolutions(block.name, block.branches)]


def _number_convolutions(order: list[str]) -> Callable[[re.Match[str]], str]:
    """Keras's names of a convolution or its norm, numbered in the order in which Keras creates them."""
    kinds = {"conv": "conv2d", "norm": "batch_normalization"}
    return lambda found: _numbered(kinds[found[2]], order.index(found[1]))


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


KERAS = ("keras",)
RESNET: Rules = (
    ("^classifier$", "predictions"),
    ("^conv1$", "conv1_conv"),
    ("^norm1$", "conv1_bn"),
    (r"^stage(\d+)_block(\d+)/", lambda found: f"conv{int(found[1]) + 1}_block{found[2]}_"),
    ("projection_norm", "0_bn"),
    ("projection", "0_conv"),
    (r"conv(\d)$", r"\1_conv"),
    (r"norm(\d)$", r"\1_bn"),
)
RESNET101, RESNET152 = "conv4_block23_3_conv/kernel", "conv4_block36_3_conv/kernel"
NETWORKS: dict[str, Names] = {
    "resnet50": Names(RESNET, key="conv5_block3_3_conv/kernel", variants=KERAS, absent=(RESNET101,)),
    "resnet101": Names(RESNET, key=RESNET101, variants=KERAS, absent=(RESNET152,)),
    "resnet152": Names(RESNET, key=RESNET152, variants=KERAS),
    "densenet121": Names(
        (
            ("^classifier$", "predictions"),
            ("^conv0$", "conv1_conv"),
            ("^norm0$", "conv1_bn"),
            ("^norm5$", "bn"),
            (r"^dense_block(\d+)/layer(\d+)/", lambda found: f"conv{int(found[1]) + 1}_block{found[2]}_"),
            (r"^transition(\d+)/", lambda found: f"pool{int(found[1]) + 1}_"),
            ("norm$", "bn"),
            ("norm1$", "0_bn"),
            ("norm2$", "1_bn"),
            (r"conv(\d)$", r"\1_conv"),
        ),
        key="conv5_block16_2_conv/kernel",
        variants=KERAS,
    ),
    "convnext_tiny": Names(
        (
            ("^classifier$", "head_dense"),
            ("^norm$", "head_layernorm"),
            ("^stem_norm$", "stem_layernorm"),
            (r"^stage(\d)_downsample$", lambda found: f"downsampling_conv_{int(found[1]) - 2}"),
            (r"^stage(\d)_downsample_norm", lambda found: f"downsampling_layernorm_{int(found[1]) - 2}"),
            (
                r"^stage(\d)_block(\d)$",
                lambda found: f"stage_{int(found[1]) - 1}_block_{int(found[2]) - 1}_layer_scale",
            ),
            (r"^stage(\d)_block(\d)/", lambda found: f"stage_{int(found[1]) - 1}_block_{int(found[2]) - 1}_"),
            ("_norm$", "_layernorm"),
            ("expand$", "pointwise_conv_1"),
            ("project$", "pointwise_conv_2"),
            ("^", "convnext_tiny_"),
        ),
        key="convnext_tiny_stage_3_block_2_layer_scale/gamma",
        absent=("convnext_tiny_stage_2_block_9_layer_scale/gamma",),
        leaves={"layer_scale": "gamma"},
    ),
    "vgg16": Names(
        (("^classifier$", "predictions"), ("^stage", "block"), ("^dense", "fc")), key="block5_conv3/kernel"
    ),
    "xception": Names(
        (
            ("^classifier$", "predictions"),
            (r"^conv(\d)/", r"block1_conv\1/"),
            (
                "^(.+)/shortcut/(conv|norm)$",
                _number_convolutions([f"block{n}" for n in xception.DOWNSAMPLING]),
            ),
            (r"^(block\d+)/", r"\1_"),
            (r"(sepconv\d)/conv$", r"\1/pointwise_"),
            ("depthwise$", "depthwise_"),
            ("/conv$", ""),
            ("/norm$", "_bn"),
        ),
        key="block14_sepconv2/pointwise_kernel",
        variants=KERAS,
    ),
    "nasnet_mobile": Names(
        (
            ("^classifier$", "predictions"),
            ("^stem/conv$", "stem_conv1"),
            ("^stem/norm$", "stem_bn1"),
            (r"^(normal|reduction)_(\w+)/squeeze/conv$", r"\1_conv_1_\2"),
            (r"^(normal|reduction)_(\w+)/squeeze/norm$", r"\1_bn_1_\2"),
            (r"^(normal|reduction)_(\w+)/adjust/conv$", r"adjust_conv_projection_\2"),
            (r"^(normal|reduction)_(\w+)/adjust/conv(\d)$", r"adjust_conv_\3_\2"),
            (r"^(normal|reduction)_(\w+)/adjust/norm$", r"adjust_bn_\2"),
            (r"^(normal|reduction)_(\w+)/(\w+)/sepconv(\d)/norm$", r"separable_conv_\4_bn_\1_\3_\2"),
            (r"^(normal|reduction)_(\w+)/(\w+)/sepconv(\d)/", r"separable_conv_\4_\1_\3_\2/"),
            (r"^(separable.+)/conv$", r"\1/pointwise_"),
            ("depthwise$", "depthwise_"),
        ),
        key="separable_conv_2_normal_left5_12/pointwise_kernel",
    ),
    "inception_resnet_v2": Names(
        (
            ("^classifier$", "predictions"),
            (r"^inception_resnet_a(\d+)/projection$", r"block35_\1_conv"),
            (r"^inception_resnet_b(\d+)/projection$", r"block17_\1_conv"),
            (r"^inception_resnet_c(\d+)/projection$", r"block8_\1_conv"),
            ("^conv7b/conv$", "conv_7b"),
            ("^conv7b/norm$", "conv_7b_bn"),
            ("^(.+)/(conv|norm)$", _number_convolutions(_inception_resnet_v2_order())),
        ),
        key="conv_7b/kernel",
        has_gamma=False,
    ),
    "inception_v3": Names(
        (
            ("^auxiliary/", None),
            ("^classifier$", "predictions"),
            ("^(.+)/(conv|norm)$", _number_convolutions(_inception_v3_order())),
        ),
        key="conv2d_93/kernel",
        variants=KERAS,
        has_gamma=False,
    ),
}
"""Where Keras numbers layers, the numbers start at the network's own first layer."""

_BLOCKS = list(inception_v3.BLOCKS)
INCEPTION_2015: dict[str, Names] = {
    "inception_v3": Names(
        (
            ("^auxiliary/", None),
            ("^classifier$", "softmax"),
            # Towers are numbered in the order in which they appear in the block.
            ("^mixed6a/branch3x3dbl", "mixed6a/tower"),
            ("branch(3x3dbl|7x7dbl|7x7x3)", "tower_1"),
            ("branch(3x3|5x5|7x7)_", "tower_"),
            (r"branch\dx\d/", "conv/"),
            ("branch_pool", "tower_2_conv"),
            (r"_(\d)/", lambda found: f"_{_numbered('conv', int(found[1]) - 1)}/"),
            (r"_\da/", "_mixed_conv/"),
            (r"_\db/", "_mixed_conv_1/"),
            ("^(mixed..)/", lambda found: f"{_numbered('mixed', _BLOCKS.index(found[1]))}_"),
            ("^(conv..)/", lambda found: f"{_numbered('conv', list(STEM).index(found[1]))}/"),
            ("/conv$", ""),
        ),
        key="mixed_10_conv.kernel",
        variants=KERAS,
    )
}
