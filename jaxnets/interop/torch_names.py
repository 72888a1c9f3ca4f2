"""PyTorch's names of our networks' modules: from torchvision, timm or the reports' listings."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple


class TorchNames(NamedTuple):
    """The naming of one network.

    `module` maps a module's path ("stage1_block2/conv1") to PyTorch's name. `flattened` maps each dense
    layer that follows a flatten to the number of channels of the feature map.
    """

    module: Callable[[str], str]
    flattened: Mapping[str, int] = MappingProxyType({})


LENET = {"dense1": "fc1", "dense2": "fc2", "classifier": "fc3"}
ALEXNET = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "dense1": "classifier.1",
    "dense2": "classifier.4",
    "classifier": "classifier.6",
}
"""Two `Sequential`s, as in reports C and E and in torchvision."""

RESNET_PROJECTION = {"projection": "downsample.0", "projection_norm": "downsample.1"}

V1_STEM = {"conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3"}
V1_BRANCHES = {
    "conv1x1": "branch1",
    "reduce3x3": "branch2.0",
    "conv3x3": "branch2.1",
    "reduce5x5": "branch3.0",
    "conv5x5": "branch3.1",
    "pool_projection": "branch4.1",
}
V1_DENSE = {
    "classifier": "fc",
    **{f"auxiliary{number}/dense": f"aux{number}.fc1" for number in (1, 2)},
    **{f"auxiliary{number}/classifier": f"aux{number}.fc2" for number in (1, 2)},
}

V3_OUTER = {
    "conv1a": "Conv2d_1a_3x3",
    "conv2a": "Conv2d_2a_3x3",
    "conv2b": "Conv2d_2b_3x3",
    "conv3b": "Conv2d_3b_1x1",
    "conv4a": "Conv2d_4a_3x3",
    "auxiliary": "AuxLogits",
}

INCEPTION_RESNET = {
    "mixed5b": "mixed_5b",
    "reduction_a": "mixed_6a",
    "reduction_b": "mixed_7a",
    "inception_resnet_c10": "block8",
    "norm": "bn",
    "projection": "conv2d",
    "pooled_conv": "branch3.1",
    "classifier": "classif",
}
INCEPTION_RESNET_REPEATS = {"a": "repeat", "b": "repeat_1", "c": "repeat_2"}


def _lenet(path: str) -> str:
    return LENET.get(path, path)


def _resnet(path: str) -> str:
    if path == "classifier":
        return "fc"
    block = re.fullmatch(r"stage(\d+)_block(\d+)/(\w+)", path)
    if block is None:
        return path.replace("norm", "bn")
    stage, number, name = block.groups()
    inner = RESNET_PROJECTION.get(name, name.replace("norm", "bn"))
    return f"layer{stage}.{int(number) - 1}.{inner}"


def _densenet(path: str) -> str:
    if path == "classifier":
        return path
    layer = re.fullmatch(r"dense_block(\d+)/layer(\d+)/(\w+)", path)
    if layer is None:
        return "features." + path.replace("/", ".")
    block, number, name = layer.groups()
    return f"features.denseblock{block}.denselayer{number}.{name}"


def _inception_v1(path: str) -> str:
    """Example: inception3a/conv5x5/norm -> inception3a.branch3.1.bn."""
    if path in V1_DENSE:
        return V1_DENSE[path]
    first, *inner, kind = path.split("/")
    outer = V1_STEM.get(first, first.replace("auxiliary", "aux"))
    branches = (V1_BRANCHES.get(name, name) for name in inner)
    return ".".join([outer, *branches, kind.replace("norm", "bn")])


def _inception_v3(path: str) -> str:
    """Example: mixed5b/branch5x5_1/norm -> Mixed_5b.branch5x5_1.bn."""
    *modules, last = path.split("/")
    if last == "classifier":
        return ".".join([*(V3_OUTER[module] for module in modules), "fc"])
    first, *inner = modules
    outer = V3_OUTER.get(first, re.sub(r"^mixed", "Mixed_", first))
    return ".".join([outer, *inner, last.replace("norm", "bn")])


def _inception_resnet_v2(path: str) -> str:
    """Example: mixed5b/branch1_conv0/norm -> mixed_5b.branch1.0.bn."""
    block, *inner = path.split("/")
    residual = re.fullmatch(r"inception_resnet_([abc])(\d+)", block)
    if block in INCEPTION_RESNET or residual is None:
        outer = INCEPTION_RESNET.get(block, re.sub(r"^conv", "conv2d_", block))
    else:
        outer = f"{INCEPTION_RESNET_REPEATS[residual[1]]}.{int(residual[2]) - 1}"
    return ".".join([outer, *(_inception_resnet_branch(block, name) for name in inner)])


def _inception_resnet_branch(block: str, name: str) -> str:
    branch = re.fullmatch(r"branch(\d)_conv(\d)", name)
    if branch is None:
        return INCEPTION_RESNET.get(name, name)
    # A branch with a single convolution is that module itself, not a Sequential.
    if branch[1] == "0" and block != "reduction_b":
        return "branch0"
    return f"branch{branch[1]}.{branch[2]}"


BY_NETWORK: Mapping[str, TorchNames] = MappingProxyType(
    {
        "lenet5": TorchNames(_lenet, {"dense1": 16}),
        "alexnet": TorchNames(ALEXNET.__getitem__, {"dense1": 256}),
        "resnet50": TorchNames(_resnet),
        "inception_v1": TorchNames(_inception_v1, {"auxiliary1/dense": 128, "auxiliary2/dense": 128}),
        "inception_v3": TorchNames(_inception_v3),
        "inception_resnet_v2": TorchNames(_inception_resnet_v2),
        "densenet121": TorchNames(_densenet),
    }
)
"""By the network's name in jaxnets.models."""
