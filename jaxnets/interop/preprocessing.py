"""Channel order of other libraries' networks, and preprocessing in safetensors metadata."""

import json
from collections.abc import Mapping

import numpy as np

from jaxnets.errors import CheckpointError
from jaxnets.interop.recognise import PRESETS, PreprocessingPreset, preset_of
from jaxnets.interop.weights import Preprocessing, Weights

METADATA_KEY = "jaxnets preprocessing"
"""In the metadata of the safetensors files that we export."""


def is_bgr(layout: str, weights: Weights) -> bool:
    """Whether the library's network with these weights and this preprocessing expects BGR input."""
    name, given = preset_of(weights.model.name, layout), weights.preprocessing
    if name is None or given is None or not PRESETS[name].bgr:
        return False
    return (given.mean, given.std) == (PRESETS[name].mean, PRESETS[name].std)


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
