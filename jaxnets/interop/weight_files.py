"""Reads weight files, local or of the Hugging Face hub, as arrays by name.

No code in a file is run, and no links are followed.
"""

import importlib.util
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from jaxnets.errors import CheckpointError, ConfigError, MachineError
from jaxnets.interop import pth
from jaxnets.io import file_sha256

if TYPE_CHECKING:
    import h5py

HUB = "hub:"
HUB_FILES = ("model.safetensors", "model.weights.h5")
"""The files to look for, in this order; pickles are never downloaded."""
PRETRAINED = "pretrained_cfg"
"""The field of the hub's config.json in which timm describes the preprocessing."""
LISTS: dict[str, tuple[type, ...]] = {
    "input_size": (int,),
    "mean": (int, float),
    "std": (int, float),
    "label_names": (str,),
}
"""Fields of config.json that are lists, with the type of their elements."""

BY_RANK: dict[tuple[int, ...], tuple[str, ...]] = {
    (4, 1): ("kernel", "bias"),
    (2, 1): ("kernel", "bias"),
    (4,): ("kernel",),
    (4, 4): ("depthwise_kernel", "pointwise_kernel"),
    (2,): ("kernel",),
    (1, 1, 1, 1): ("gamma", "beta", "moving_mean", "moving_variance"),
    (1, 1, 1): ("beta", "moving_mean", "moving_variance"),
    (1, 1): ("mean", "variance"),  # of the inputs
    (1,): ("gamma",),
}
"""Names of a layer's weights, which Keras 3 numbers 0, 1, ..., by their numbers of dimensions."""
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
"""Safetensors types that numpy supports."""
MAX_COMPRESSION = 1100
"""An upper bound on the compression ratio of deflate, HDF5's usual filter."""
MAX_DEPTH = 16
"""Nested groups; Keras files have fewer, and a cycle of groups has more."""


class WeightFile(NamedTuple):
    """A file's arrays, its origin, and the hub's description of the network, or {}."""

    arrays: dict[str, np.ndarray]
    source: dict[str, Any]
    described: dict[str, Any]


def open_file(source: str, report: Callable[[str], None]) -> WeightFile:
    """Reads a file, or hub:OWNER/NAME[@REVISION]; `report` is called with a line before a download.

    Raises CheckpointError if there is no such file, the network fails, or it is of an unknown format or
    damaged, ConfigError if a package that it needs is not installed.
    """
    described: dict[str, Any] = {}
    path, origin = Path(source), {"file": Path(source).name}
    if source.startswith(HUB):
        path, described, origin = _download(source, report)
    if path.is_dir():
        raise CheckpointError(f"{source} is a folder: give the weights file in it")
    if not path.exists():
        raise CheckpointError(f"{source} does not exist: give a file, or {HUB}OWNER/NAME for the hub")
    if not path.is_file():
        raise CheckpointError(f"{source} is not a regular file: give a weights file")
    match path.suffix.lower():
        case ".safetensors":
            arrays, metadata = read_safetensors(path)
            origin |= {"metadata": metadata} if metadata else {}
        case ".h5" | ".hdf5":
            arrays = read_keras(path)
        case ".pth" | ".pt" | ".bin":
            arrays = pth.read(path)
        case _:
            raise CheckpointError(f"{path} has an unknown format: .safetensors, .h5 and .pth are supported")
    return WeightFile(arrays, {**origin, "sha256": file_sha256(path)}, described)


def _download(source: str, report: Callable[[str], None]) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The file, config.json or {}, and the origin of hub:OWNER/NAME[@REVISION]."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ConfigError(f"{source} needs huggingface_hub: pip install huggingface_hub")
    import huggingface_hub

    # The error below reports failed retries. The package resets its root logger's level on first use.
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
    name, _, given = source.removeprefix(HUB).partition("@")
    revision = given or None
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    timeout = os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", "10")
    report(f"{endpoint}/{name} (given up after {timeout} s of silence)")
    try:
        available = huggingface_hub.list_repo_files(name, revision=revision)
        file = next((file for file in HUB_FILES if file in available), None)
        wanted = [each for each in (file, "config.json") if file and each in available]
        paths = {each: huggingface_hub.hf_hub_download(name, each, revision=revision) for each in wanted}
    except Exception as error:  # the exception classes depend on huggingface_hub's version
        raise CheckpointError(
            f"{source} could not be downloaded ({_one_line(error)}): check the name and the network, "
            "or download the file elsewhere and pass its path"
        ) from error
    if file is None:
        raise CheckpointError(f"{source} has none of {', '.join(HUB_FILES)}: use another name")
    described: Any = {}
    if "config.json" in paths:
        try:
            described = json.loads(Path(paths["config.json"]).read_text())
        except ValueError as error:
            raise CheckpointError(f"{source}: its config.json is not valid JSON ({error})") from error
    if not _is_description(described):
        raise CheckpointError(
            f"{source}: its config.json does not describe a network: download the file and pass its path"
        )
    return Path(paths[file]), described, {"hub": name, "revision": revision, "file": file}


def _is_description(described: Any) -> bool:
    """Whether the content of config.json has the types that timm writes."""
    if not isinstance(described, dict) or not isinstance(described.get(PRETRAINED, {}), dict):
        return False
    if not isinstance(described.get("architecture"), str | None):
        return False
    given = {**described.get(PRETRAINED, {}), "label_names": described.get("label_names")}
    for name, kinds in LISTS.items():
        values = given.get(name, [])
        if values is not None and not (
            isinstance(values, list) and all(isinstance(value, kinds) for value in values)
        ):
            return False
    return True


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads the arrays by name and the file's metadata; raises CheckpointError if it is damaged."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (a safe_open is not a mapping)
                dtype = file.get_slice(name).get_dtype()
                if dtype not in DTYPES:
                    raise CheckpointError(
                        f"{path}: {name} is {dtype}, and only {', '.join(DTYPES[:4])} and integers are "
                        "read: save the weights again as float32 or bfloat16"
                    )
        return safetensors.numpy.load_file(path), metadata
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is not a valid safetensors file: {_one_line(error)}") from error


def read_keras(path: Path) -> dict[str, np.ndarray]:
    """Reads a Keras file, `.weights.h5` or `.h5`, as arrays named "layer/weight"; layers count from 0.

    Raises CheckpointError if it is damaged, contains links, external or virtual data, or does not name its
    layers, and ConfigError if h5py is missing.
    """
    if importlib.util.find_spec("h5py") is None:
        raise ConfigError(f"{path}: Keras files need h5py: pip install h5py")
    import h5py

    try:
        with h5py.File(path, "r") as file:
            datasets = dict(_datasets(file, path))
            root = "model_weights/"  # the other groups of a whole model's file hold the optimizer
            whole = [key for key in datasets if key.startswith(root)]
            if whole:
                datasets = {key.removeprefix(root): datasets[key] for key in whole}
            is_keras_3 = any(name.startswith("layers/") for name in datasets)
            named = _keras_3(datasets, path) if is_keras_3 else _legacy(datasets, path)
    except (OSError, RuntimeError, KeyError, ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not a valid HDF5 file: {_one_line(error)}") from error
    if not named:
        raise CheckpointError(f"{path} does not contain weights of Keras layers")
    return _renumber(named)


def _keras_3(datasets: "dict[str, h5py.Dataset]", path: Path) -> dict[str, np.ndarray]:
    """layers/CLASS_N/vars/0, 1, ...; the layer's name is an attribute of vars."""
    layers: dict[str, dict[int, np.ndarray]] = {}
    for key, dataset in datasets.items():
        if not re.fullmatch(r"layers/(.+/)?vars/\d+", key):
            continue
        name = dataset.parent.attrs.get("name")
        if name is None:
            raise CheckpointError(
                f"{path} does not name its layers: save it with Keras 3.8 or later, or as model.h5"
            )
        layers.setdefault(str(name), {})[int(key.rpartition("/")[2])] = _values(dataset, path)
    named = {}
    for layer, weights in layers.items():
        arrays = [weights[number] for number in sorted(weights)]
        names = BY_RANK.get(tuple(array.ndim for array in arrays))
        if "layernorm" in layer:
            names = ("gamma", "beta")
        if names is None:
            raise CheckpointError(f"{path}: {layer} is not a convolution, dense layer or batch norm")
        named |= {f"{layer}/{name}": array for name, array in zip(names, arrays, strict=True)}
    return named


def _legacy(datasets: "dict[str, h5py.Dataset]", path: Path) -> dict[str, np.ndarray]:
    """LAYER/LAYER/kernel, or LAYER/LAYER/kernel:0, as Keras 1 and 2 and `model.save("x.h5")` write."""
    named = {}
    for key, dataset in datasets.items():
        outer, _, rest = key.partition("/")
        if outer in ("optimizer", "optimizer_weights", "top_level_model_weights") or not rest:
            continue
        inner, _, weight = rest.rpartition("/")
        layer = inner.rpartition("/")[2] or outer  # of a nested model, `outer` is the model's name
        weight = re.sub(r"^variable(_\d+)?$", "gamma", weight.partition(":")[0])  # of ConvNeXt's layer scale
        name = f"{layer}/{weight}"
        if name in named:
            raise CheckpointError(f"{path} has {name} twice: save each network in its own file")
        named[name] = _values(dataset, path)
    return named


def _values(dataset: "h5py.Dataset", path: Path) -> np.ndarray:
    """Reads an array; raises CheckpointError if the file is too small for its declared size."""
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > stored * (MAX_COMPRESSION if dataset.compression else 1):
        raise CheckpointError(
            f"{path}: {dataset.name} declares {dataset.nbytes:,} bytes, and the file of "
            f"{path.stat().st_size:,} bytes stores {stored:,}: it is damaged, save it again"
        )
    try:
        return dataset[()]
    except MemoryError as error:
        raise MachineError(
            f"{path}: {dataset.name} needs {dataset.nbytes:,} bytes of memory, which are not available"
        ) from error


def _datasets(group: "h5py.Group", path: Path, prefix: str = "") -> "Iterator[tuple[str, h5py.Dataset]]":
    """Yields the float datasets below a group; raises CheckpointError for links."""
    import h5py

    for name in group:
        where = f"{prefix}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise CheckpointError(f"{path} has a link at {where}: links are not followed")
        found: Any = group[name]
        if isinstance(found, h5py.Group):
            if where.count("/") >= MAX_DEPTH:
                raise CheckpointError(f"{path} is not a Keras file: {where} is nested too deeply")
            yield from _datasets(found, path, f"{where}/")
        elif found.external or found.is_virtual:
            raise CheckpointError(f"{path}: the data of {where} are in another file")
        elif found.dtype.kind == "f":
            yield where, found


def _renumber(named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers layers from 0. Keras counts across networks, so a network may start at conv2d_94."""
    renamed = {name.partition("/")[0]: name.partition("/")[0] for name in named}
    for kind in ("conv2d", "batch_normalization"):
        matches = {layer: re.fullmatch(rf"{kind}(?:_(\d{{1,9}}))?", layer) for layer in renamed}
        numbers = {layer: int(match[1] or 0) for layer, match in matches.items() if match}
        for position, layer in enumerate(sorted(numbers, key=numbers.__getitem__)):
            renamed[layer] = f"{kind}_{position}" if position else kind
    found = {}
    for name, array in named.items():
        layer, _, weight = name.partition("/")
        found[f"{renamed[layer]}/{weight}"] = array
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
