"""Which network a file of weights is of, by whose names, and what its library does to pixels."""

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
"""An array that a file of the network in the layout has; the first that fits counts."""

KNOWN = tuple(dict.fromkeys(network for network, _ in SIGNATURE_KEYS))
"""The networks that other libraries have."""

NATIVE_SIZES: Mapping[str, int] = MappingProxyType(
    {
        "lenet5": 28,
        "alexnet": 32,
        "inception_v3": 299,
        "inception_resnet_v2": 299,
    }
)
"""Pixels a side that a network was made for; 224 elsewhere."""
CHANNELS: Mapping[str, int] = MappingProxyType({"lenet5": 1})


class PreprocessingPreset(NamedTuple):
    """What a library subtracts from pixels in [0, 1], RGB, and divides by; `bgr` where it then turns them."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False


PRESETS: Mapping[str, PreprocessingPreset] = MappingProxyType(
    {
        "imagenet": PreprocessingPreset((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "half": PreprocessingPreset((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        "inception_2015": PreprocessingPreset((128 / 255,) * 3, (128 / 255,) * 3),
        "caffe": PreprocessingPreset(
            (123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3, bgr=True
        ),
    }
)
"""imagenet: torchvision's; half: [-1, 1], "tf" in Keras; caffe: Keras's for ResNet."""
KERAS_PRESETS: Mapping[str, str] = MappingProxyType(
    {
        "resnet50": "caffe",
        "densenet121": "imagenet",
        "inception_v3": "half",
        "inception_resnet_v2": "half",
    }
)


def recognise(
    arrays: Mapping[str, np.ndarray], network: str | None, layout: str | None
) -> tuple[str, str]:
    """(network, layout) of a file's arrays, those that are given taken as they are.

    Raises ConfigError for an unknown network or layout, CheckpointError where the names are of another
    network, or of none that is known.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(
            f"--layout={layout}: it is one of {', '.join(LAYOUTS)}{nearest(layout, LAYOUTS)}"
        )
    if network is not None and network not in KNOWN:
        raise ConfigError(
            f"--model={network}: it is one of {', '.join(KNOWN)}{nearest(network, KNOWN)}"
        )
    marked = [place for place, mark in SIGNATURE_KEYS.items() if mark in arrays]
    for name, form in marked:
        if network in (None, name) and layout in (None, form):
            return name, form
    if network is not None and layout is not None:
        return network, layout
    if marked:
        name, form = marked[0]
        given = f"--model={network}" if network is not None else f"--layout={layout}"
        raise CheckpointError(
            f"the file is of {name} in the layout {form} by its names, not {given}: leave that out"
        )
    shown = ", ".join(list(arrays)[:3])
    raise CheckpointError(
        f"the file has no network that is known here (its arrays are {shown}, ...): known are "
        f"{', '.join(KNOWN)}; one of those under names of its own needs --model and --layout"
    )


def preset_of(network: str, layout: str) -> str | None:
    """The preprocessing of a library's own weights by name; None where a file alone does not say."""
    if layout == "keras":
        return KERAS_PRESETS.get(network)
    return "inception_2015" if layout == "inception_2015" else None
