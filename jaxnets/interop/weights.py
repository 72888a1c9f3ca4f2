"""Weights folders: a network's variables and their description.

    weights.safetensors   arrays by path, "params/conv1/kernel", "batch_stats/norm1/mean", as in Flax
    weights.json          the network, its input, classes and preprocessing, the origin of the weights and
                          the sha256 of weights.safetensors; written last, so its presence marks success

Weights may be partial: `missing` then lists the arrays of the network that are absent.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.data.cache import Resize
from jaxnets.errors import CheckpointError, JaxnetsError
from jaxnets.io import atomic_write, file_sha256, require_folder
from jaxnets.runtime.xla import precision_of

ARRAYS, DESCRIPTION = "weights.safetensors", "weights.json"
FORMAT = "jaxnets weights, 1"


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The input a network expects: RGB in [0, 1], `image_size` pixels a side, minus mean, divided by std.

    `resize` is as data.resize; with "crop", the side of the central square that is used is `crop` times the
    shorter side. mean and std have one number per channel.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Resize = "crop"
    crop: float = 1.0


@dataclasses.dataclass(frozen=True)
class Weights:
    """The contents of a weights folder.

    `variables` is {"params", "batch_stats"}, trees of numpy arrays without those in `missing`, paths such as
    "params/classifier/kernel". `model`, a config.model section, describes the whole network, for inputs of
    `input_shape` [H, W, C]. `classes` and `preprocessing` are None if unknown. `temperature` divides the
    logits, so that confidences are calibrated; None if none was fitted.
    """

    variables: dict[str, Any]
    model: config_dict.ConfigDict
    input_shape: tuple[int, ...]
    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    temperature: float | None = None
    missing: tuple[str, ...] = ()
    source: dict[str, Any] = dataclasses.field(default_factory=dict)


def structure(model: config_dict.ConfigDict, input_shape: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of every array of the network by path, including its auxiliary heads."""
    return _structure(config_dict.FrozenConfigDict(model), tuple(input_shape))


@functools.lru_cache(maxsize=4)  # seconds for the deep networks
def _structure(
    model: config_dict.FrozenConfigDict, input_shape: tuple[int, ...]
) -> dict[str, jax.ShapeDtypeStruct]:
    x = jax.ShapeDtypeStruct((1, *input_shape), np.float32)
    with precision_of(model):
        variables = jax.eval_shape(functools.partial(models.create(model).init, jax.random.key(0)), x)
    return flatten({name: variables[name] for name in ("params", "batch_stats") if name in variables})


def flatten(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens variables to leaves by path, "params/conv1/kernel"."""
    return traverse_util.flatten_dict(dict(variables), sep="/")


def unflatten(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten`; absent collections become {}."""
    return {"params": {}, "batch_stats": {}, **traverse_util.unflatten_dict(dict(arrays), sep="/")}


def write_weights(folder: Path, weights: Weights) -> None:
    """Writes a weights folder, creating its directory.

    Raises CheckpointError if `variables` and `missing` together are not the network's arrays,
    MachineError if the folder cannot be created.
    """
    arrays = {path: np.asarray(leaf) for path, leaf in flatten(weights.variables).items()}
    _check(str(folder), arrays, weights)
    require_folder(folder)
    atomic_write(folder / ARRAYS, safetensors.numpy.save(arrays))
    described = {
        "format": FORMAT,
        "model": weights.model.to_dict(),
        "input_shape": weights.input_shape,
        "classes": weights.classes,
        "preprocessing": weights.preprocessing and dataclasses.asdict(weights.preprocessing),
        "temperature": weights.temperature,
        "missing": weights.missing,
        "source": weights.source,
        "sha256": file_sha256(folder / ARRAYS),
    }
    atomic_write(folder / DESCRIPTION, json.dumps(described, indent=1) + "\n")


def is_weights_folder(folder: Path) -> bool:
    """Whether the folder was written by `write_weights`."""
    return (folder / DESCRIPTION).is_file()


def read_weights(folder: Path) -> Weights:
    """Reads a weights folder and checks every array's name and shape against the network.

    Raises CheckpointError if it is not a weights folder, is damaged, or belongs to another network.
    """
    described, path = _read_description(folder / DESCRIPTION), folder / ARRAYS
    if not path.is_file() or file_sha256(path) != described.get("sha256"):
        raise CheckpointError(f"{path} does not match {DESCRIPTION}: restore it")
    try:
        arrays = safetensors.numpy.load_file(path)
        classes, given = described["classes"], described["preprocessing"]
        if given is not None:
            numbers: dict[str, Any] = {name: tuple(map(float, given[name])) for name in ("mean", "std")}
            given = Preprocessing(**{**given, **numbers})
        weights = Weights(
            variables=unflatten(arrays),
            model=config_lib.from_json(json.dumps({"model": described["model"]})).model,
            input_shape=tuple(described["input_shape"]),
            classes=None if classes is None else tuple(classes),
            preprocessing=given,
            temperature=described.get("temperature"),
            missing=tuple(described["missing"]),
            source=described["source"],
        )
        _check_description(weights)
        _check(str(folder), arrays, weights)
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, safetensors.SafetensorError, JaxnetsError) as error:
        raise CheckpointError(f"{folder} is damaged or from another version: {error}") from error
    return weights


def _read_description(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path.parent} is not a weights folder: {DESCRIPTION} is missing")
    try:
        described = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}): restore it") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise CheckpointError(f"{path} does not have the format {FORMAT!r}: export it again")
    return described


def _check(where: str, arrays: Mapping[str, np.ndarray], weights: Weights) -> None:
    """Raises CheckpointError for the first unexpected, misshapen or missing array."""
    expected = structure(weights.model, weights.input_shape)
    for path, array in arrays.items():
        if path not in expected or path in weights.missing:
            raise CheckpointError(f"{where} is of another network: {weights.model.name} has no {path}")
        if array.shape != expected[path].shape:
            raise CheckpointError(
                f"{where} is of another network: {path} is {list(array.shape)}, "
                f"not {list(expected[path].shape)}"
            )
    absent = sorted(set(expected) - set(arrays) - set(weights.missing))
    if absent:
        raise CheckpointError(f"{where} is missing {absent[0]} and {len(absent) - 1} more arrays")


def _check_description(weights: Weights) -> None:
    """Raises ValueError if classes or preprocessing do not match the network."""
    classes, given, number = weights.classes, weights.preprocessing, weights.model.num_classes
    if classes is not None and len(classes) != number:
        raise ValueError(f"{DESCRIPTION} names {len(classes)} classes, and the network has {number}")
    if (temperature := weights.temperature) is not None and not 0 < temperature < np.inf:
        raise ValueError(f"{DESCRIPTION}: temperature is {temperature!r}, not a positive number")
    if given is None:
        return
    if type(given.image_size) is not int or given.image_size < 1:
        raise ValueError(f"{DESCRIPTION}: image_size is {given.image_size!r}, not a positive integer")
    if given.resize not in get_args(Resize):
        raise ValueError(
            f"{DESCRIPTION}: resize is {given.resize!r}, not one of {', '.join(get_args(Resize))}"
        )
    if not 0 < given.crop <= 1:
        raise ValueError(f"{DESCRIPTION}: crop is {given.crop!r}, not a number above 0 and up to 1")
    for name, values in (("mean", given.mean), ("std", given.std)):
        if len(values) != weights.input_shape[-1]:
            raise ValueError(f"{DESCRIPTION}: {name} must have one number per channel")
