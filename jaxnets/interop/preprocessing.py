"""How other libraries preprocess images, also in the metadata of safetensors files that we export."""

import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxnets.errors import CheckpointError
from jaxnets.interop.weights import Preprocessing, Weights

METADATA_KEY = "jaxnets preprocessing"


class PreprocessingPreset(NamedTuple):
    """Mean and std of RGB pixels in [0, 1]; with `bgr` the channels are then reversed."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False


PRESETS = {
    "imagenet": PreprocessingPreset((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": PreprocessingPreset((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "inception_2015": PreprocessingPreset((128 / 255,) * 3, (128 / 255,) * 3),
    "caffe": PreprocessingPreset((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3, bgr=True),
}
"""imagenet: torchvision; half: scales to [-1, 1], "tf" in Keras; caffe: Keras's ResNet."""
PRESET_OF = {
    ("keras", "resnet50"): "caffe",
    ("keras", "densenet121"): "imagenet",
    ("keras", "inception_v3"): "half",
    ("keras", "inception_resnet_v2"): "half",
    ("inception_2015", "inception_v3"): "inception_2015",
}
"""The preset of a library's own weights by (layout, network), where the library has only one."""


def is_bgr(layout: str, weights: Weights) -> bool:
    """Whether the library's network with these weights and this preprocessing expects BGR input."""
    given, preset = weights.preprocessing, PRESETS.get(PRESET_OF.get((layout, weights.model.name), ""))
    return given is not None and preset == (given.mean, given.std, True)


def channels_reversed(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """Converts a network between RGB and BGR input; returns the arrays and the path that changed.

    Only the first convolution changes, which has 3 input channels.
    """
    first = next(path for path, leaf in arrays.items() if leaf.ndim == 4 and leaf.shape[2] == 3)
    return {**arrays, first: np.ascontiguousarray(arrays[first][:, :, ::-1])}, first


def to_metadata(given: Preprocessing | None, *, bgr: bool) -> dict[str, str]:
    """Safetensors metadata that records the preprocessing; {} if it is unknown."""
    if given is None:
        return {}
    return {METADATA_KEY: json.dumps({"mean": given.mean, "std": given.std, "bgr": bgr})}


def from_metadata(metadata: Mapping[str, str]) -> PreprocessingPreset | None:
    """Reads the metadata of `to_metadata`; None if absent. Raises CheckpointError if it is damaged."""
    if METADATA_KEY not in metadata:
        return None
    try:
        values = json.loads(metadata[METADATA_KEY])
        mean, std = (tuple(map(float, values[name])) for name in ("mean", "std"))
        return PreprocessingPreset(mean, std, bool(values["bgr"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the file's metadata {METADATA_KEY!r} is damaged: {error}") from error
