"""CIFAR-10: 60,000 photographs of 32 x 32 px, from the official batches (Krizhevsky, 2009)."""

import hashlib
import os
import pickle
from functools import cached_property
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxnets.data.sources.base import Example
from jaxnets.data.sources.image_folder import checked_index
from jaxnets.errors import DataError

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
BATCHES = (
    "data_batch_1",
    "data_batch_2",
    "data_batch_3",
    "data_batch_4",
    "data_batch_5",
    "test_batch",
)
IMAGES_PER_BATCH = 10_000

BINARY_SHA256 = MappingProxyType(
    {
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    }
)
"""Of the binary version's files."""

PYTHON_MD5 = MappingProxyType(
    {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    }
)
"""Of the python version's files, as published beside cifar-10-python.tar.gz."""

BINARY_FOLDER = "cifar-10-batches-bin"
PYTHON_FOLDER = "cifar-10-batches-py"
_PIXELS = 3 * 32 * 32  # stored red, green, blue, each by rows
_REMEDY = "copy it again, or run: python scripts/prepare_data.py cifar10"


class CIFAR10:
    """The photographs, kind "image": uint8[32, 32, 3]; 50,000 train, then 10,000 test.

    Reads the official batches, binary or python (no code in a pickle is ever run), in `root`
    or in their usual folders below it, checks every byte by its published digest, and keeps the
    pixels in memory (184 MB). The order is the official one, the same from either version.
    Other files of the same format are read with their own `images_per_batch` and
    `check_bytes=False`. Raises DataError for a file that is missing, damaged or of another kind.
    """

    name = "cifar10"
    kind = "image"
    classes = CLASSES

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        images_per_batch: int = IMAGES_PER_BATCH,
        check_bytes: bool = True,
    ):
        total = images_per_batch * len(BATCHES)
        self.images = np.empty((total, 32, 32, 3), np.uint8)
        self.labels = np.empty(total, np.int32)
        for number, path in enumerate(find_files(Path(root))):
            batch = slice(number * images_per_batch, (number + 1) * images_per_batch)
            labels, pixels = _read_batch(path, images_per_batch, check_bytes)
            self.labels[batch] = labels
            self.images[batch] = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        self.images.setflags(write=False)  # examples are views into it
        self.files = tuple(f"{b}/{i:05d}" for b in BATCHES for i in range(images_per_batch))
        boundary = total - images_per_batch
        self.official_split = {"train": np.arange(boundary), "test": np.arange(boundary, total)}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        place = checked_index(index, len(self))
        return {
            "image": self.images[place],
            "label": self.labels[place],
            "index": np.int64(place),
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over all pixels and labels, the same for either version of the files."""
        digest = hashlib.sha256(b"cifar10")
        digest.update(self.images.data)
        digest.update(self.labels.data)
        return digest.hexdigest()


def find_files(root: Path) -> list[Path]:
    """Returns the six batches' files in official order; looks at names only.

    Raises DataError that says what was found and what is wanted.
    """
    best: list[Path] = []
    for folder in (".", "cifar10", "cifar-10", "CIFAR10"):
        for inner, ending in (
            (BINARY_FOLDER, ".bin"),
            (".", ".bin"),
            (PYTHON_FOLDER, ""),
            (".", ""),
        ):
            paths = [root / folder / inner / f"{batch}{ending}" for batch in BATCHES]
            found = [path for path in paths if path.is_file()]
            if len(found) == len(BATCHES):
                return found
            best = max(best, found, key=len)
    seen = ", ".join(path.name for path in best) or "none"
    raise DataError(
        f"{root}: of CIFAR-10's six batches there is {seen}; wanted are data_batch_1 to 5 and "
        f"test_batch, of {BINARY_FOLDER} or {PYTHON_FOLDER}; get them with: "
        "python scripts/prepare_data.py cifar10"
    )


def _read_batch(path: Path, count: int, check_bytes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels uint8[count] and pixels uint8[count, 3072] of a file of either version."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from error
    binary = path.suffix == ".bin"
    if check_bytes:
        kind, published = ("sha256", BINARY_SHA256) if binary else ("md5", PYTHON_MD5)
        if hashlib.new(kind, data).hexdigest() != published[path.name]:
            raise DataError(f"{path}: not the official bytes ({kind} differs); {_REMEDY}")
    try:
        labels, pixels = (_parse_binary if binary else _parse_pickle)(data)
        if pixels.dtype != np.uint8 or labels.shape != (count,):
            raise ValueError(f"{len(labels):,} labels where there should be {count:,}")
        if pixels.shape != (count, _PIXELS):
            raise ValueError(f"pixels {pixels.shape} where there should be {(count, _PIXELS)}")
        if labels.max(initial=0) >= len(CLASSES):
            raise ValueError(f"a label is {labels.max()}")
    # A damaged pickle raises nearly any exception.
    except Exception as error:
        raise DataError(f"{path}: not a batch of CIFAR-10 ({error}); {_REMEDY}") from error
    return labels, pixels


def _parse_binary(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + _PIXELS)
    return rows[:, 0], rows[:, 1:]


def _parse_pickle(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = _BatchUnpickler(BytesIO(data), encoding="bytes").load()
    return np.array(batch[b"labels"], np.uint8), batch[b"data"]


class _BatchUnpickler(pickle.Unpickler):
    """Admits the three names that a pickled array of bytes needs; a pickle may ask for any."""

    def find_class(self, module: str, name: str) -> Any:
        admitted = {"_reconstruct": _empty_array, "ndarray": np.ndarray, "dtype": _byte_type}
        if module.partition(".")[0] == "numpy" and name in admitted:
            return admitted[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs")


def _empty_array(kind: type, shape: tuple[int, ...], _: bytes) -> np.ndarray:
    """Stands in for numpy's `_reconstruct`; the pickle fills in shape, type and bytes next."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"it asks for an array of type {kind}")
    return np.empty(shape, np.uint8)


def _byte_type(code: bytes, *_: object) -> np.dtype:
    """Stands in for `numpy.dtype`: no type but uint8, and a copy, as the pickle sets its state."""
    if code != b"u1":
        raise pickle.UnpicklingError(f"it asks for numbers of type {code!r}")
    return np.dtype("u1", copy=True)
