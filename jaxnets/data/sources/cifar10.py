"""CIFAR-10: 60,000 photographs of 32 x 32 px, from the official batches (Krizhevsky, 2009)."""

import hashlib
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.sources.base import Download, InMemoryImages, PreparedSource, first_complete, read_file
from jaxnets.errors import DataError
from jaxnets.io import command

CLASSES = tuple(["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"])
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
IMAGES_PER_BATCH = 10_000

DIGESTS = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""sha256 of the binary version's files; md5 of the python version's, as published with it."""

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
BINARY_FOLDER = "cifar-10-batches-bin"
PYTHON_FOLDER = "cifar-10-batches-py"
_PIXELS = 3 * 32 * 32  # stored red, green, blue, each by rows
_REMEDY = f"copy it again, or run: {command('prepare_data')} cifar10"


class CIFAR10(InMemoryImages, PreparedSource):
    """CIFAR-10, kind "image": uint8[32, 32, 3]; 50,000 train, then 10,000 test.

    Reads the official batches, binary or python (without running code in pickles), in `root` or in their
    usual subfolders, and verifies their published digests. All pixels stay in memory (184 MB). Both versions
    give the same order. For other files of this format set `images_per_batch` and `check_bytes=False`.
    Raises DataError for a missing, damaged or different file.
    """

    name = "cifar10"
    classes = CLASSES
    member_pattern = r"(data_batch_[1-5]|test_batch)(\.bin)?"
    downloads = (Download((URL,), "md5:c32a1d4ab5d03f1284b67883e8d87530"),)

    def __init__(
        self, root: str | Path, *, images_per_batch: int = IMAGES_PER_BATCH, check_bytes: bool = True
    ):
        total = images_per_batch * len(BATCHES)
        images, labels = np.empty((total, 32, 32, 3), np.uint8), np.empty(total, np.int32)
        for number, path in enumerate(find_files(Path(root))):
            batch = slice(number * images_per_batch, (number + 1) * images_per_batch)
            labels[batch], pixels = _read_batch(path, images_per_batch, check_bytes)
            images[batch] = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        super().__init__(images, labels, dict.fromkeys(BATCHES, images_per_batch))
        self.ships_groups = check_bytes and images_per_batch == IMAGES_PER_BATCH

    @classmethod
    def find_members(cls, root: Path) -> list[tuple[str, Path]]:
        folder = {".bin": BINARY_FOLDER, "": PYTHON_FOLDER}
        return [(f"{folder[path.suffix]}/{path.name}", path) for path in find_files(root)]


def find_files(root: Path) -> list[Path]:
    """Finds the files of the six batches by name, in official order; raises DataError if any is missing."""
    layouts = (
        [root / folder / inner / f"{batch}{suffix}" for batch in BATCHES]
        for folder in (".", "cifar10", "cifar-10", "CIFAR10")
        for suffix, inner in ((".bin", BINARY_FOLDER), (".bin", "."), ("", PYTHON_FOLDER), ("", "."))
    )
    expected = (
        f"data_batch_1 to 5 and test_batch, from {BINARY_FOLDER} or {PYTHON_FOLDER}; "
        f"get them with: {command('prepare_data')} cifar10"
    )
    return first_complete(layouts, f"{root}: CIFAR-10", expected)


def _read_batch(path: Path, count: int, check_bytes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Reads labels uint8[count] and pixels uint8[count, 3072] from a file of either version."""
    data, binary = read_file(path, _REMEDY), path.suffix == ".bin"
    if check_bytes:
        kind = "sha256" if binary else "md5"
        if hashlib.new(kind, data).hexdigest() != DIGESTS[path.name]:
            raise DataError(f"{path}: not the official bytes ({kind} differs); {_REMEDY}")
    try:
        if binary:
            rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + _PIXELS)
            labels, pixels = rows[:, 0], rows[:, 1:]
        else:
            batch = _BatchUnpickler(BytesIO(data), encoding="bytes").load()
            labels, pixels = np.array(batch[b"labels"], np.uint8), batch[b"data"]
        if pixels.dtype != np.uint8 or labels.shape != (count,) or pixels.shape != (count, _PIXELS):
            raise ValueError(f"labels {labels.shape} and pixels {pixels.shape} instead of {count:,} images")
        if labels.max(initial=0) >= len(CLASSES):
            raise ValueError(f"a label is {labels.max()}")
    except Exception as error:  # a damaged pickle raises nearly any exception
        raise DataError(f"{path}: not a CIFAR-10 batch ({error}); {_REMEDY}") from error
    return labels, pixels


class _BatchUnpickler(pickle.Unpickler):
    """Allows only the three names that a pickled byte array needs."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {"_reconstruct": _empty_array, "ndarray": np.ndarray, "dtype": _byte_type}
        if module.partition(".")[0] == "numpy" and name in allowed:
            return allowed[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which batches do not need")


def _empty_array(kind: type, shape: tuple[int, ...], _: bytes) -> np.ndarray:
    """Replaces numpy's `_reconstruct`; the pickle then sets shape, type and bytes."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"it asks for an array of type {kind}")
    return np.empty(shape, np.uint8)


def _byte_type(code: bytes, *_: object) -> np.dtype:
    """Replaces `numpy.dtype`: uint8 only, as a copy because the pickle sets its state."""
    if code != b"u1":
        raise pickle.UnpicklingError(f"it asks for numbers of type {code!r}")
    return np.dtype("u1", copy=True)
