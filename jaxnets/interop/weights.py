"""A weights folder: a network's variables, and what they are the variables of.

    weights.safetensors   arrays by path, "params/conv1/kernel", "batch_stats/norm1/mean", as Flax has them
    weights.json          the network, its input, its classes, its preprocessing, whence it came, and the
                          sha256 of weights.safetensors; written last, so that a folder with it is whole

Weights may be partial: what they lack of the network is listed, and the folder holds the rest.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import CheckpointError, JaxnetsError
from jaxnets.io import atomic_write, file_sha256, require_folder
from jaxnets.runtime.precision import precision_of

ARRAYS, DESCRIPTION = "weights.safetensors", "weights.json"
FORMAT = "jaxnets weights, 1"
COLLECTIONS = ("params", "batch_stats")

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What the network expects of pixels: `image_size` a side, RGB in [0, 1], minus mean, over std.

    `resize` is how other shapes become square, as data.resize has it. The numbers are by channel.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = "crop"


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a weights folder holds.

    `variables` is {"params", "batch_stats"}, trees of numpy arrays without the arrays that are `missing`,
    whose paths ("params/classifier/kernel") are relative to the whole network that `model`, a section
    config.model of a recipe, describes for inputs of `input_shape` [H, W, C]. `classes` and `preprocessing`
    are None where they are not known. `source` says whence the weights are.
    """

    variables: dict[str, Any]
    model: config_dict.ConfigDict
    input_shape: tuple[int, ...]
    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    missing: tuple[str, ...] = ()
    source: dict[str, Any] = dataclasses.field(default_factory=dict)


def structure(
    model: config_dict.ConfigDict, input_shape: tuple[int, ...]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and type of every array of the network by path; its auxiliary heads where it trains them."""
    return _structure(json.dumps(model.to_dict(), sort_keys=True), tuple(input_shape))


def flatten(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves by path, "params/conv1/kernel"."""
    return traverse_util.flatten_dict(dict(variables), sep="/")


def unflatten(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """{"params", "batch_stats"} of leaves by path; a collection without any is {}."""
    return {"params": {}, "batch_stats": {}, **traverse_util.unflatten_dict(dict(arrays), sep="/")}


def write_weights(folder: Path, weights: Weights) -> None:
    """Writes a weights folder; its directory is made.

    Raises CheckpointError where `variables` and `missing` together are not the network's arrays,
    MachineError where the folder cannot be made.
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
        "missing": weights.missing,
        "source": weights.source,
        "sha256": file_sha256(folder / ARRAYS),
    }
    atomic_write(folder / DESCRIPTION, json.dumps(described, indent=1) + "\n")


def is_weights_folder(folder: Path) -> bool:
    """Whether `write_weights` wrote it."""
    return (folder / DESCRIPTION).is_file()


def read_weights(folder: Path) -> Weights:
    """What a weights folder holds, every array's name and shape checked against the network.

    Raises CheckpointError where it is none, where a byte has changed and where it is of another network.
    """
    described = _read_description(folder)
    path = folder / ARRAYS
    if not path.is_file() or file_sha256(path) != described.get("sha256"):
        raise CheckpointError(f"{path} is not the file that {DESCRIPTION} tells of: restore it")
    try:
        weights = Weights(
            variables=unflatten(safetensors.numpy.load_file(path)),
            model=_model(described["model"]),
            input_shape=tuple(described["input_shape"]),
            classes=_tuple_or_none(described["classes"]),
            preprocessing=_preprocessing(described["preprocessing"]),
            missing=tuple(described["missing"]),
            source=described["source"],
        )
        _check_description(weights)
        _check(str(folder), flatten(weights.variables), weights)
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, safetensors.SafetensorError, JaxnetsError) as error:
        raise CheckpointError(f"{folder} is damaged or of another version: {error}") from error
    return weights


@functools.lru_cache(maxsize=4)  # seconds for the deep networks
def _structure(model: str, input_shape: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    fields = _model(json.loads(model))
    network = models.create(fields)
    x = jax.ShapeDtypeStruct((1, *input_shape), np.float32)
    with precision_of(fields):
        variables = jax.eval_shape(functools.partial(network.init, jax.random.key(0)), x)
    return {path: leaf for path, leaf in flatten(variables).items() if _collection(path)}


def _model(fields: Mapping[str, Any]) -> config_dict.ConfigDict:
    """The section config.model that has these fields; raises ConfigError for one that is unknown."""
    return config_lib.from_json(json.dumps({"model": fields})).model


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise CheckpointError(f"{folder} is no weights folder: it has no {DESCRIPTION}")
    try:
        described = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}): restore it") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not of the format {FORMAT!r}: write it again")
    return described


def _check(where: str, arrays: Arrays, weights: Weights) -> None:
    """Raises CheckpointError for the first array that the network has no place for, or lacks."""
    expected = structure(weights.model, weights.input_shape)
    for path, array in arrays.items():
        if path not in expected or path in weights.missing:
            raise CheckpointError(
                f"{where} is of another network: {weights.model.name} has no {path}"
            )
        if array.shape != expected[path].shape:
            raise CheckpointError(
                f"{where} is of another network: {path} is {list(array.shape)}, "
                f"not {list(expected[path].shape)}"
            )
    absent = sorted(set(expected) - set(arrays) - set(weights.missing))
    if absent:
        raise CheckpointError(f"{where} lacks {absent[0]} and {len(absent) - 1} more arrays")


def _check_description(weights: Weights) -> None:
    """Raises ValueError where classes or preprocessing do not fit the network."""
    classes, given = weights.classes, weights.preprocessing
    if classes is not None and len(classes) != weights.model.num_classes:
        raise ValueError(
            f"{DESCRIPTION} names {len(classes)} classes, and the network has {weights.model.num_classes}"
        )
    if given is None:
        return
    if type(given.image_size) is not int or given.image_size < 1:
        raise ValueError(f"{DESCRIPTION}: image_size is {given.image_size!r}, no number of pixels")
    for name, values in (("mean", given.mean), ("std", given.std)):
        if len(values) != weights.input_shape[-1]:
            raise ValueError(f"{DESCRIPTION}: {name} has not one number a channel")


def _collection(path: str) -> bool:
    return path.partition("/")[0] in COLLECTIONS


def _tuple_or_none(values: Any) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _preprocessing(fields: dict[str, Any] | None) -> Preprocessing | None:
    if fields is None:
        return None
    mean, std = (tuple(map(float, fields[name])) for name in ("mean", "std"))
    return Preprocessing(fields["image_size"], mean, std, fields["resize"])
