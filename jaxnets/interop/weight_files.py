"""Files of weights as arrays by name. Nothing in a file is run, and no file leads to another."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors
import safetensors.numpy

from jaxnets.errors import CheckpointError, MachineError
from jaxnets.io import atomic_write

BY_RANK: dict[tuple[int, ...], tuple[str, ...]] = {
    (4, 1): ("kernel", "bias"),
    (2, 1): ("kernel", "bias"),
    (4,): ("kernel",),
    (2,): ("kernel",),
    (1, 1, 1, 1): ("gamma", "beta", "moving_mean", "moving_variance"),
    (1, 1, 1): ("beta", "moving_mean", "moving_variance"),
}
"""What Keras 3 numbers 0, 1, ...: a layer's weights, by how many axes they have."""
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
"""The types of safetensors that numpy has, by their names there."""
MAX_COMPRESSION = 1100
"""More than deflate, HDF5's usual filter, can compress anything."""
LAYERS, VARIABLES = "layers", "vars"
NO_LAYERS = ("optimizer", "optimizer_weights", "top_level_model_weights")
DEEPEST = 16
"""Groups within groups; no file of Keras's has as many, a ring of groups has more."""


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays by name and the file's own remarks; raises CheckpointError where it is damaged."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (a safe_open is no mapping)
                _check_dtype(path, name, file.get_slice(name).get_dtype())
        return safetensors.numpy.load_file(path), metadata
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is no whole safetensors file: {_line(error)}") from error


def _check_dtype(path: Path, name: str, dtype: str) -> None:
    if dtype not in DTYPES:
        raise CheckpointError(
            f"{path}: {name} is {dtype}, and only {', '.join(DTYPES[:4])} and whole numbers are read: "
            "save the weights again as float32 or bfloat16"
        )


def save_safetensors(
    path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None
) -> None:
    """Writes the arrays by name, whole, with remarks of the file's own."""
    atomic_write(path, safetensors.numpy.save(arrays, metadata))


def read_keras(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a Keras file, `.weights.h5` or `.h5`, as "layer/weight", numbered layers from 0.

    Raises CheckpointError where it is damaged, where it has links, external or virtual data, and where it
    does not say which layer is which.
    """
    try:
        with h5py.File(path, "r") as file:
            root = _group(file, "model_weights", path) or file
            layers = _group(root, LAYERS, path)
            named = _legacy(root, path) if layers is None else _keras_3(layers, path)
    except (OSError, RuntimeError, KeyError, ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is no whole HDF5 file: {_line(error)}") from error
    if not named:
        raise CheckpointError(f"{path} holds no weights of Keras layers")
    return _numbered_from_0(named)


def _group(parent: h5py.Group, name: str, path: Path) -> h5py.Group | None:
    """The group of that name, None if there is none; raises CheckpointError for a link or a data set."""
    if name not in parent and parent.get(name, getlink=True) is None:
        return None
    _refuse_link(parent, name, path, name)
    found = parent[name]
    if not isinstance(found, h5py.Group):
        raise CheckpointError(f"{path} is no file of Keras's: {name} is no group")
    return found


def _refuse_link(parent: h5py.Group, name: str, path: Path, where: str) -> None:
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        raise CheckpointError(f"{path} has a link at {where}: only data sets are read")


def _keras_3(layers_group: h5py.Group, path: Path) -> dict[str, np.ndarray]:
    """layers/CLASS_N/vars/0, 1, ...; the layer's own name is an attribute of vars."""
    layers: dict[str, dict[int, np.ndarray]] = {}
    for place, dataset in _datasets(layers_group, path):
        *groups, last = place.split("/")
        if not groups or groups[-1] != VARIABLES or not last.isdecimal():
            continue
        name = dataset.parent.attrs.get("name")
        if name is None:
            raise CheckpointError(
                f"{path} does not name its layers: save it with Keras 3.8 or later, or as model.h5"
            )
        layers.setdefault(str(name), {})[int(last)] = _values(dataset, path)
    named = {}
    for layer, weights in layers.items():
        arrays = [weights[number] for number in sorted(weights)]
        names = BY_RANK.get(tuple(array.ndim for array in arrays))
        if names is None:
            raise CheckpointError(f"{path}: {layer} is no convolution, dense layer or batch norm")
        named |= {f"{layer}/{name}": array for name, array in zip(names, arrays, strict=True)}
    return named


def _legacy(root: h5py.Group, path: Path) -> dict[str, np.ndarray]:
    """LAYER/LAYER/kernel, or LAYER/LAYER/kernel:0, as Keras 1 and 2 and `model.save("x.h5")` write."""
    named = {}
    for place, dataset in _datasets(root, path):
        layer, _, rest = place.partition("/")
        if layer in NO_LAYERS or not rest:
            continue
        within, _, weight = rest.rpartition("/")
        layer = (
            within.rpartition("/")[2] or layer
        )  # in a model within a model the outer name is its own
        name = f"{layer}/{weight.partition(':')[0]}"
        if name in named:
            raise CheckpointError(
                f"{path} has {name} twice: save the networks in files of their own"
            )
        named[name] = _values(dataset, path)
    return named


def _values(dataset: h5py.Dataset, path: Path) -> np.ndarray:
    """A data set's array; raises CheckpointError if the file is too small to hold what it declares."""
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > stored * (MAX_COMPRESSION if dataset.compression else 1):
        raise CheckpointError(
            f"{path}: {dataset.name} declares {dataset.nbytes:,} bytes, and the file of "
            f"{path.stat().st_size:,} has {stored:,} of them: it is damaged, save it again"
        )
    try:
        return dataset[()]
    except MemoryError as error:
        raise MachineError(
            f"{path}: {dataset.name} needs {dataset.nbytes:,} bytes of memory, more than are free"
        ) from error


def _datasets(group: h5py.Group, path: Path, place: str = "") -> Iterator[tuple[str, h5py.Dataset]]:
    """The data sets below a group, none of them reached by a link."""
    for name in group:
        where = f"{place}{name}"
        _refuse_link(group, name, path, where)
        found: Any = group[name]
        if isinstance(found, h5py.Group):
            if where.count("/") >= DEEPEST:
                raise CheckpointError(f"{path} is no file of Keras's: {where} goes too deep")
            yield from _datasets(found, path, f"{where}/")
        elif found.external or found.is_virtual:
            raise CheckpointError(f"{path}: the data of {where} are in another file")
        elif found.dtype.kind == "f":
            yield where, found


def _numbered_from_0(named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keras goes on counting from one network to the next: conv2d_94 may be a network's first."""
    numbers: dict[str, set[int]] = {}
    for name in named:
        kind, number = _kind_and_number(name.partition("/")[0])
        if number is not None:
            numbers.setdefault(kind, set()).add(number)
    order = {kind: sorted(found) for kind, found in numbers.items()}
    renamed = {}
    for name, array in named.items():
        layer, _, weight = name.partition("/")
        kind, number = _kind_and_number(layer)
        if number is not None:
            place = order[kind].index(number)
            layer = f"{kind}_{place}" if place else kind
        renamed[f"{layer}/{weight}"] = array
    return renamed


def _kind_and_number(layer: str) -> tuple[str, int | None]:
    for kind in ("conv2d", "batch_normalization"):
        rest = layer.removeprefix(kind)
        if rest != layer and (not rest or rest[1:].isdecimal()):
            return kind, int(rest[1:] or 0)
    return layer, None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
