"""Reads state dicts in the file formats of PyTorch, without PyTorch.

Since version 1.6 a file is a zip archive: NAME/data.pkl is a pickle of the state dict, and NAME/data/KEY
has the values of a storage. Before, it was a sequence of pickles (a magic number, the protocol's version, the
sizes of C's types, the state dict, and the keys of the storages), followed by the storages: the number of
values as int64, and the values. In the state dict a tensor is a call of a function with a storage, an offset,
sizes and strides.
"""

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnets.errors import CheckpointError

MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""The first bytes of a file before version 1.6: a pickle of the magic number."""
PROTOCOL = 1001
DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store a state dict."""


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    count: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


class _StateDict(dict[Any, Any]):
    """An ordered dict; its attributes, such as the versions of the modules, are left out."""

    def __setstate__(self, state: Any) -> None:
        del state


class _Unpickler(pickle.Unpickler):
    """Makes tensors and ordered dicts, and calls nothing that a file names."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Callable[..., Any] | np.dtype:
        if (module, name) == ("collections", "OrderedDict"):
            return _StateDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _make_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _make_parameter
        if module == "torch" and name in DTYPES:
            return np.dtype(DTYPES[name])
        raise _UnsafeError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or any(view) or not isinstance(dtype, np.dtype):
            raise ValueError("a storage of an unknown kind")
        return self.storages.setdefault(str(key), _Storage(str(key), dtype, int(count)))


class _UnsafeError(Exception):
    """The file names something that is neither a tensor nor an ordered dict."""


def _make_tensor(storage: Any, offset: Any, sizes: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    return _Tensor(storage, int(offset), tuple(map(int, sizes)), tuple(map(int, strides)))


def _make_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a state dict by name.

    Raises CheckpointError if the file is damaged, or contains anything but tensors and dicts of them.
    """
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_sequence(path)
    except CheckpointError:
        raise
    except _UnsafeError as error:
        raise CheckpointError(
            f"{path} holds more than dense tensors ({error}), which might run code: it is not read; "
            "save only model.state_dict()"
        ) from error
    except Exception as error:  # damaged pickles raise nearly any exception
        raise CheckpointError(f"{path} is not a valid PyTorch file: {type(error).__name__}") from error


def _read_zip(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        (root,) = (name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl"))
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("another byte order")
        with archive.open(f"{root}data.pkl") as file:
            tensors = _state_dict(path, _Unpickler(file).load())
        values = {}
        for key, storage in {tensor.storage.key: tensor.storage for tensor in tensors.values()}.items():
            member = archive.getinfo(f"{root}data/{key}")
            if not member.compress_size == member.file_size == storage.count * storage.dtype.itemsize:
                raise ValueError("a storage of another size")
            values[key] = np.frombuffer(archive.read(member), storage.dtype)
    return {name: _array(tensor, values[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_sequence(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("another format")
        parts = [_Unpickler(file) for _ in range(4)]
        protocol, system, loaded, keys = (part.load() for part in parts)
        if protocol != PROTOCOL or not system["little_endian"]:
            raise ValueError("another protocol or byte order")
        tensors = _state_dict(path, loaded)
        values = {str(key): _read_storage(file, parts[2].storages[str(key)]) for key in keys}
    return {name: _array(tensor, values[tensor.storage.key]) for name, tensor in tensors.items()}


def _state_dict(path: Path, loaded: Any) -> dict[str, _Tensor]:
    """The tensors of a state dict, or of one that a training script has stored beside other things."""
    for name in STATE_DICT_KEYS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, _Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path} is not a state dict: it contains more than tensors")
    return {str(name): tensor for name, tensor in loaded.items()}


def _read_storage(file: IO[bytes], storage: _Storage) -> np.ndarray:
    (count,) = np.frombuffer(file.read(8), "<i8")
    if count != storage.count:
        raise ValueError("a storage of another size")
    data = file.read(count * storage.dtype.itemsize)
    return np.frombuffer(data, storage.dtype, count)


def _array(tensor: _Tensor, values: np.ndarray) -> np.ndarray:
    """A copy of the tensor's part of its storage; raises ValueError if it is not within the storage."""
    pairs = list(zip(tensor.sizes, tensor.strides, strict=True))
    last = tensor.offset + sum((size - 1) * stride for size, stride in pairs)
    count = int(np.prod(tensor.sizes, dtype=object))
    if min((tensor.offset, *tensor.sizes, *tensor.strides)) < 0 or count > values.size:
        raise ValueError("sizes that do not fit the storage")
    if count == 0:
        return np.empty(tensor.sizes, values.dtype)
    if last >= values.size:
        raise ValueError("a tensor beyond its storage")
    strides = [stride * values.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.sizes, strides).copy()
