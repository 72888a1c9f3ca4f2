"""Detects the network and layout of a weight file; preprocessing presets of the libraries."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxnets.config import nearest
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.interop.layouts import LAYOUTS

SIGNATURE_KEYS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("resnet50", "torch"): "layer4.2.conv3.weight",
        ("densenet121", "torch"): "features.denseblock4.denselayer16.conv2.weight",
        ("inception_v1", "torch"): "inception5b.branch4.1.conv.weight",
        ("inception_v3", "torch"): "Mixed_7c.branch_pool.conv.weight",
        ("inception_resnet_v2", "torch"): "mixed_7a.branch2.2.conv.weight",
        ("alexnet", "torch"): "features.10.weight",
        ("lenet5", "torch"): "fc3.weight",
        ("resnet50", "keras"): "conv5_block3_3_conv/kernel",
        ("densenet121", "keras"): "conv5_block16_2_conv/kernel",
        ("inception_resnet_v2", "keras"): "conv_7b/kernel",
        ("inception_v3", "keras"): "conv2d_93/kernel",
        ("inception_v3", "inception_2015"): "mixed_10_conv.kernel",
    }
)
"""An array that identifies (network, layout); the first match wins."""

KNOWN = tuple(dict.fromkeys(network for network, _ in SIGNATURE_KEYS))
"""Networks that can be imported."""

NATIVE_SIZES: Mapping[str, int] = MappingProxyType(
    {"lenet5": 28, "alexnet": 32, "inception_v3": 299, "inception_resnet_v2": 299}
)
"""Image size for which a network was designed, in pixels; the others use 224."""
CHANNELS: Mapping[str, int] = MappingProxyType({"lenet5": 1})


class PreprocessingPreset(NamedTuple):
    """Mean and std of RGB pixels in [0, 1]; with `bgr` the channels are then reversed."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False


PRESETS: Mapping[str, PreprocessingPreset] = MappingProxyType(
    {
        "imagenet": PreprocessingPreset((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "half": PreprocessingPreset((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        "inception_2015": PreprocessingPreset((128 / 255,) * 3, (128 / 255,) * 3),
        "caffe": PreprocessingPreset((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3, bgr=True),
    }
)
"""imagenet: torchvision; half: scales to [-1, 1], "tf" in Keras; caffe: Keras's ResNet."""
KERAS_PRESETS: Mapping[str, str] = MappingProxyType(
    {
        "resnet50": "caffe",
        "densenet121": "imagenet",
        "inception_v3": "half",
        "inception_resnet_v2": "half",
    }
)


def recognise(arrays: Mapping[str, np.ndarray], network: str | None, layout: str | None) -> tuple[str, str]:
    """Detects (network, layout) from the array names of a file; a given one is not detected.

    Raises ConfigError for an unknown network or layout, CheckpointError if the names belong to another
    network or to none of ours.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(f"--layout={layout}: choose one of {', '.join(LAYOUTS)}{nearest(layout, LAYOUTS)}")
    if network is not None and network not in KNOWN:
        raise ConfigError(f"--model={network}: choose one of {', '.join(KNOWN)}{nearest(network, KNOWN)}")
    matches = [place for place, key in SIGNATURE_KEYS.items() if key in arrays]
    for found in matches:
        if network in (None, found[0]) and layout in (None, found[1]):
            return found
    if network is not None and layout is not None:
        return network, layout
    if matches:
        name, form = matches[0]
        given = f"--model={network}" if network is not None else f"--layout={layout}"
        raise CheckpointError(
            f"the array names are those of {name} in the layout {form}, not {given}: omit that flag"
        )
    shown = ", ".join(list(arrays)[:3])
    raise CheckpointError(
        f"the file is not of a supported network (its arrays are {shown}, ...): supported are "
        f"{', '.join(KNOWN)}; if it is one of them, set --model and --layout"
    )


def preset_of(network: str, layout: str) -> str | None:
    """Name of the preset that a library's own weights use; None if the file alone does not determine it."""
    if layout == "keras":
        return KERAS_PRESETS.get(network)
    return "inception_2015" if layout == "inception_2015" else None
