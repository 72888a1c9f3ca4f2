"""What a library does to pixels beside what its files say: Keras turns the channels of some networks."""

import json
from collections.abc import Mapping

import numpy as np

from jaxnets.errors import CheckpointError
from jaxnets.interop.recognise import PRESETS, PreprocessingPreset, preset_of
from jaxnets.interop.weights import Preprocessing, Weights

METADATA_KEY = "jaxnets preprocessing"
"""Of a safetensors file that we wrote in a library's names."""


def is_bgr(layout: str, weights: Weights) -> bool:
    """Whether the library's network with these weights and this preprocessing takes BGR."""
    name, given = preset_of(weights.model.name, layout), weights.preprocessing
    if name is None or given is None or not PRESETS[name].bgr:
        return False
    return (given.mean, given.std) == (PRESETS[name].mean, PRESETS[name].std)


def channels_reversed(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of the same network for pixels in the other order, RGB or BGR, and the path that changed.

    It is that of the one convolution that sees the image: its kernel takes 3 channels.
    """
    first = next(path for path, leaf in arrays.items() if leaf.ndim == 4 and leaf.shape[2] == 3)
    return {**arrays, first: np.ascontiguousarray(arrays[first][:, :, ::-1])}, first


def to_metadata(given: Preprocessing | None, *, bgr: bool) -> dict[str, str]:
    """What stands in a file's remarks, so that whoever imports it needs not guess."""
    if given is None:
        return {}
    return {METADATA_KEY: json.dumps({"mean": given.mean, "std": given.std, "bgr": bgr})}


def from_metadata(metadata: Mapping[str, str]) -> PreprocessingPreset | None:
    """What `to_metadata` wrote; None without, CheckpointError where it is damaged."""
    if METADATA_KEY not in metadata:
        return None
    try:
        message = json.loads(metadata[METADATA_KEY])
        mean, std = (tuple(map(float, message[name])) for name in ("mean", "std"))
        return PreprocessingPreset(mean, std, bool(message["bgr"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the file's remark {METADATA_KEY!r} is damaged: {error}") from error
