"""Reads state dicts in the file formats of PyTorch, without PyTorch.

Since version 1.6 a file is a zip archive: NAME/data.pkl is a pickle of the state dict, and NAME/data/KEY
has the values of a storage. Before, it was a sequence of pickles (a magic number, the protocol's version, the
sizes of C's types, the state dict, and the keys of the storages), followed by the storages: the number of
values as int64, and the values. In the state dict a tensor is a call of a function with a storage, an offset,
sizes and strides.
"""

import io
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
MAX_PICKLE = 1 << 24
"""The maximum number of bytes of data.pkl. Each may become an object of about 64 bytes."""
MAX_COPIES = 4
"""The maximum number of bytes of all tensors per byte of the file: tensors may share a storage."""
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store a state dict."""


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    count: int

    @property
    def bytes(self) -> int:
        return self.count * self.dtype.itemsize


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
        if module == "collections" and name in ("OrderedDict", "Counter"):
            return _StateDict
        if (module, name) == ("torch", "Size"):
            return tuple
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _make_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _make_parameter
        if module == "torch" and name in DTYPES:
            return np.dtype(DTYPES[name])
        is_storage = module in ("torch", "torch.storage") and name.endswith("Storage")
        if is_storage or (module == "torch._utils" and name.startswith("_rebuild_")):
            raise _TensorError(f"{module}.{name}")
        raise _UnsafeError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or any(view) or not isinstance(dtype, np.dtype) or int(count) < 0:
            raise ValueError("a storage of an unknown kind")
        return self.storages.setdefault(str(key), _Storage(str(key), dtype, int(count)))


class _TensorError(Exception):
    """The file has a tensor of a type or layout that is not read."""


class _UnsafeError(Exception):
    """The file names something that is neither a tensor nor a dict."""


def _make_tensor(storage: Any, offset: Any, sizes: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or any(int(size) < 0 for size in sizes):
        raise ValueError("a tensor without a storage, or of a negative size")
    return _Tensor(storage, int(offset), tuple(map(int, sizes)), tuple(map(int, strides)))


def _make_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a state dict by name.

    Raises CheckpointError if the file is damaged, contains anything but dense tensors and dicts of them, or
    has tensors that would take much more memory than the file.
    """
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_sequence(path)
    except CheckpointError:
        raise
    except _TensorError as error:
        raise CheckpointError(
            f"{path} holds tensors of a kind that is not read ({error}): save all as dense float32"
        ) from error
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
        if f"{root}byteorder" in archive.namelist() and _stored(archive, f"{root}byteorder") != b"little":
            raise ValueError("another byte order")
        pickled = io.BytesIO(_stored(archive, f"{root}data.pkl", MAX_PICKLE))
        tensors = _state_dict(path, _Unpickler(pickled).load())
        storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        _check_sizes(path, tensors, storages)
        values = {}
        for key, storage in storages.items():
            data = _stored(archive, f"{root}data/{key}", storage.bytes)
            values[key] = np.frombuffer(data, storage.dtype, storage.count)
    return {name: _array(tensor, values[tensor.storage.key]) for name, tensor in tensors.items()}


def _stored(archive: zipfile.ZipFile, name: str, max_bytes: int = 1 << 10) -> bytes:
    """Reads a member, which PyTorch never compresses; raises ValueError if it is compressed or too large."""
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > max_bytes:
        raise ValueError("a compressed or too large member")
    return archive.read(member)


def _check_sizes(path: Path, tensors: Mapping[str, _Tensor], storages: Mapping[str, _Storage]) -> None:
    """Checks that the storages fit into the file, and that the tensors are not many copies of them."""
    size = path.stat().st_size
    if sum(storage.bytes for storage in storages.values()) > size:
        raise ValueError("storages that are larger than the file")
    total = sum(
        int(np.prod(each.sizes, dtype=object)) * each.storage.dtype.itemsize for each in tensors.values()
    )
    if total > MAX_COPIES * size:
        raise CheckpointError(
            f"{path} holds tensors of {total:,} bytes in {size:,} bytes: too many share a storage; "
            "save clones of the tensors"
        )


def _read_sequence(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError("another format")
        parts = [_Unpickler(file) for _ in range(4)]
        protocol, system, loaded, keys = (part.load() for part in parts)
        if protocol != PROTOCOL or not system["little_endian"]:
            raise ValueError("another protocol or byte order")
        tensors = _state_dict(path, loaded)
        _check_sizes(path, tensors, parts[2].storages)
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
    return np.frombuffer(file.read(storage.bytes), storage.dtype, count)


def _array(tensor: _Tensor, values: np.ndarray) -> np.ndarray:
    """A copy of the tensor's part of its storage; raises ValueError if it is not within the storage."""
    pairs = list(zip(tensor.sizes, tensor.strides, strict=True))
    last = tensor.offset + sum((size - 1) * stride for size, stride in pairs)
    count = int(np.prod(tensor.sizes, dtype=object))
    if min((tensor.offset, *tensor.strides)) < 0 or count > values.size:
        raise ValueError("sizes that do not fit the storage")
    if count == 0:
        return np.empty(tensor.sizes, values.dtype)
    if last >= values.size:
        raise ValueError("a tensor beyond its storage")
    strides = [stride * values.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.sizes, strides).copy()
