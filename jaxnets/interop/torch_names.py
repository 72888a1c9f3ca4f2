"""The names that torchvision, timm and the reports' PyTorch listings give to our modules."""

import re

from jaxnets.interop.names import Names, Rules
from jaxnets.models import vgg

TORCHVISION = ("torchvision",)
RESNET: Rules = (
    ("^classifier$", "fc"),
    (r"^stage(\d+)_block(\d+)/", lambda found: f"layer{found[1]}.{int(found[2]) - 1}/"),
    ("projection_norm", "downsample.1"),
    ("projection", "downsample.0"),
    ("norm", "bn"),
)


def _vgg(layers: int) -> Rules:
    """The rules of a VGG with two layers per convolution, or three: itself, batch norm, ReLU."""
    numbers, number = {}, 0
    for stage, widths in enumerate(vgg.STAGES, 1):
        for conv in range(1, len(widths) + 1):
            numbers |= {f"stage{stage}_conv{conv}": number, f"stage{stage}_norm{conv}": number + 1}
            number += layers
        number += 1  # the pooling
    return (
        ("^classifier$", "classifier.6"),
        ("^dense1$", "classifier.0"),
        ("^dense2$", "classifier.3"),
        ("^stage.+", lambda found: f"features.{numbers[found[0]]}"),
    )


def _xception_layer(found: re.Match[str]) -> str:
    """The name of a layer in a block's Sequential, which begins with a ReLU in all blocks but the first."""
    block, number, layer = found.groups()
    first = 3 * int(number) - (3 if block == "2" else 2)
    return f"block{block}/rep.{first + 1}" if layer == "norm" else f"block{block}/rep.{first}/{layer}"


VGG_FLATTENED = {"dense1": 512}
RESNET101, RESNET152 = "layer3.22.conv3.weight", "layer3.35.conv3.weight"
NETWORKS: dict[str, Names] = {
    "resnet18": Names(
        RESNET, key="layer4.1.conv2.weight", absent=("layer4.1.conv3.weight", "layer4.2.conv2.weight")
    ),
    "resnet34": Names(RESNET, key="layer4.2.conv2.weight", absent=("layer4.2.conv3.weight",)),
    "resnet50": Names(RESNET, key="layer4.2.conv3.weight", variants=TORCHVISION, absent=(RESNET101,)),
    "resnet101": Names(RESNET, key=RESNET101, variants=TORCHVISION, absent=(RESNET152,)),
    "resnet152": Names(RESNET, key=RESNET152, variants=TORCHVISION),
    "vgg16": Names(_vgg(2), key="features.28.weight", shape=(512, 512, 3, 3), flattened=VGG_FLATTENED),
    "vgg16_bn": Names(_vgg(3), key="features.40.weight", flattened=VGG_FLATTENED),
    "xception": Names(  # timm's legacy_xception
        (
            ("^classifier$", "fc"),
            (r"^conv(\d)/conv$", r"conv\1"),
            (r"^conv(\d)/norm$", r"bn\1"),
            (r"^block14_sepconv(\d)/norm$", lambda found: f"bn{int(found[1]) + 2}"),
            (r"^block14_sepconv(\d)/", lambda found: f"conv{int(found[1]) + 2}/"),
            (r"^block(\d+)/sepconv(\d)/(\w+)", _xception_layer),
            (r"^block(\d+)/", lambda found: f"block{int(found[1]) - 1}/"),
            ("shortcut/conv$", "skip"),
            ("shortcut/norm$", "skipbn"),
            ("conv$", "pointwise"),
            ("depthwise$", "conv1"),
        ),
        key="conv4.pointwise.weight",
        variants=("timm",),
    ),
    "convnext_tiny": Names(
        (
            ("^classifier$", "classifier.2"),
            ("^norm$", "classifier.0"),
            ("^stem_conv$", "features.0.0"),
            ("^stem_norm$", "features.0.1"),
            (r"^stage(\d)_downsample", lambda found: f"features.{2 * int(found[1]) - 2}"),
            (r"^(features\.\d)_norm$", r"\1.0"),
            (r"^(features\.[246])$", r"\1.1"),
            (r"^stage(\d)_block(\d)", lambda found: f"features.{2 * int(found[1]) - 1}.{int(found[2]) - 1}"),
            ("depthwise_conv$", "block.0"),
            ("norm$", "block.2"),
            ("expand$", "block.3"),
            ("project$", "block.5"),
        ),
        key="features.7.2.block.5.weight",
        shape=(768, 3072),
        absent=("features.5.9.layer_scale",),
        channel_maps=("layer_scale",),
    ),
    "densenet121": Names(
        (("^(?!classifier)", "features."), (r"dense_block(\d+)/layer(\d+)/", r"denseblock\1.denselayer\2.")),
        key="features.denseblock4.denselayer16.conv2.weight",
        variants=TORCHVISION,
    ),
    "inception_v1": Names(
        (
            ("^classifier$", "fc"),
            (r"^auxiliary(\d)/dense$", r"aux\1.fc1"),
            (r"^auxiliary(\d)/classifier$", r"aux\1.fc2"),
            ("^auxiliary", "aux"),
            ("^conv2/", "conv3/"),
            ("^conv2_reduce/", "conv2/"),
            ("conv1x1", "branch1"),
            ("reduce3x3", "branch2.0"),
            ("conv3x3", "branch2.1"),
            ("reduce5x5", "branch3.0"),
            ("conv5x5", "branch3.1"),
            ("pool_projection", "branch4.1"),
            ("norm", "bn"),
        ),
        key="inception5b.branch4.1.conv.weight",
        variants=TORCHVISION,
        flattened={"auxiliary1/dense": 128, "auxiliary2/dense": 128},
    ),
    "inception_v3": Names(
        (
            ("^conv3b/", "Conv2d_3b_1x1/"),
            (r"^conv(\d[ab])/", r"Conv2d_\1_3x3/"),
            ("^mixed", "Mixed_"),
            ("^auxiliary", "AuxLogits"),
            ("classifier$", "fc"),
            ("norm$", "bn"),
        ),
        key="Mixed_7c.branch_pool.conv.weight",
        variants=TORCHVISION,
    ),
    "inception_resnet_v2": Names(
        (
            (r"^conv(\d[ab])/", r"conv2d_\1/"),
            ("^mixed5b", "mixed_5b"),
            (r"^inception_resnet_a(\d+)", lambda found: f"repeat.{int(found[1]) - 1}"),
            (r"^inception_resnet_b(\d+)", lambda found: f"repeat_1.{int(found[1]) - 1}"),
            ("^inception_resnet_c10", "block8"),
            (r"^inception_resnet_c(\d+)", lambda found: f"repeat_2.{int(found[1]) - 1}"),
            (r"^reduction_b/branch(\d)_conv(\d)", r"mixed_7a/branch\1.\2"),
            ("^reduction_a", "mixed_6a"),
            ("branch0_conv0", "branch0"),  # a single convolution is not in a Sequential
            (r"branch(\d)_conv(\d)", r"branch\1.\2"),
            ("pooled_conv", "branch3.1"),
            ("projection", "conv2d"),
            ("classifier", "classif"),
            ("norm$", "bn"),
        ),
        key="mixed_7a.branch2.2.conv.weight",
    ),
    "alexnet": Names(  # two Sequentials, as in reports C and E and in torchvision
        (
            ("classifier", "classifier.6"),
            ("dense1", "classifier.1"),
            ("dense2", "classifier.4"),
            (r"conv(\d)", lambda found: f"features.{(0, 3, 6, 8, 10)[int(found[1]) - 1]}"),
        ),
        key="features.10.weight",
        shape=(256, 256, 3, 3),
        variants=("pool3", "pool2"),
        flattened={"dense1": 256},
    ),
    "lenet5": Names(  # as in the reports
        (("dense", "fc"), ("classifier", "fc3")), key="fc3.weight", flattened={"dense1": 16}
    ),
}
TIMM = {
    "convnext_tiny": Names(
        (
            ("^classifier$", "head.fc"),
            ("^norm$", "head.norm"),
            ("^stem_conv$", "stem.0"),
            ("^stem_norm$", "stem.1"),
            (r"^stage(\d)_downsample", lambda found: f"stages.{int(found[1]) - 1}.downsample"),
            ("downsample$", "downsample.1"),
            ("downsample_norm$", "downsample.0"),
            (r"^stage(\d)_block(\d)", lambda found: f"stages.{int(found[1]) - 1}.blocks.{int(found[2]) - 1}"),
            ("depthwise_conv$", "conv_dw"),
            ("expand$", "mlp.fc1"),
            ("project$", "mlp.fc2"),
        ),
        key="stages.3.blocks.2.mlp.fc2.weight",
        shape=(768, 3072),
        absent=("stages.2.blocks.9.gamma",),
        leaves={"layer_scale": "gamma"},
    )
}
"""Networks whose names in timm differ from torchvision's, beside those of `mobile_names`."""
