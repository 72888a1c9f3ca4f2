"""MNIST: 70,000 handwritten digits, from the four official idx files (LeCun, Cortes, Burges)."""

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.sources.base import Download, InMemoryImages, PreparedSource, first_complete
from jaxnets.errors import DataError
from jaxnets.io import command

CLASSES = tuple("0123456789")
COUNTS = {"train": 60_000, "test": 10_000}


class OfficialFile(NamedTuple):
    """The file's name without `.gz`, and the digests of the compressed file and of its content."""

    name: str
    gzip_sha256: str
    content_sha256: str


FILES = {
    ("train", "images"): OfficialFile(
        "train-images-idx3-ubyte",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    ("train", "labels"): OfficialFile(
        "train-labels-idx1-ubyte",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    ("test", "images"): OfficialFile(
        "t10k-images-idx3-ubyte",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    ("test", "labels"): OfficialFile(
        "t10k-labels-idx1-ubyte",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
"""By split and kind."""

_HOSTS = ("https://storage.googleapis.com/cvdf-datasets", "https://ossci-datasets.s3.amazonaws.com")
_SUBFOLDERS = (".", "mnist", "MNIST/raw", "mnist/MNIST/raw", "raw", "MNIST")
_UNSIGNED_BYTES = 8  # the idx format's code for uint8
_REMEDY = f"copy it again, or run: {command('prepare_data')} mnist"


class MNIST(InMemoryImages, PreparedSource):
    """MNIST, kind "image": uint8[28, 28, 1], white on black; 60,000 train, then 10,000 test.

    Reads the official files, `.gz` or not, in `root` or in the subfolders that torchvision and others use,
    and verifies their sha256. All pixels stay in memory (55 MB). For other files of this format set `counts`
    and `check_bytes=False`. Raises DataError for a missing, damaged or different file.
    """

    name = "mnist"
    classes = CLASSES
    member_pattern = r"(train|t10k)-(images[-.]idx3|labels[-.]idx1)-ubyte(\.gz)?"
    downloads = tuple(
        Download(tuple(f"{host}/mnist/{file.name}.gz" for host in _HOSTS), f"sha256:{file.gzip_sha256}")
        for file in FILES.values()
    )

    def __init__(self, root: str | Path, *, counts: Mapping[str, int] = COUNTS, check_bytes: bool = True):
        arrays = {}
        for (split, kind), path in find_files(Path(root)).items():
            shape = (counts[split], 28, 28) if kind == "images" else (counts[split],)
            array = _read_idx(path, shape, FILES[split, kind].content_sha256 if check_bytes else None)
            if kind == "labels" and array.max(initial=0) >= len(CLASSES):
                raise DataError(f"{path}: a label is {array.max()}; {_REMEDY}")
            arrays[split, kind] = array
        images = np.concatenate([arrays["train", "images"], arrays["test", "images"]])
        labels = np.concatenate([arrays["train", "labels"], arrays["test", "labels"]])
        super().__init__(images[..., None], labels.astype(np.int32), counts)

    @classmethod
    def find_members(cls, root: Path) -> list[tuple[str, Path]]:
        return [(path.name, path) for path in find_files(root).values()]


def find_files(root: Path) -> dict[tuple[str, str], Path]:
    """Finds the four files by name, by (split, "images" or "labels"); raises DataError if any is missing."""
    names = ", ".join(file.name for file in FILES.values())
    expected = f"{names}, each with or without .gz; get them with: {command('prepare_data')} mnist"
    layouts = ([_spelling(root / folder, file.name) for file in FILES.values()] for folder in _SUBFOLDERS)
    found = first_complete(layouts, f"{root}: MNIST", expected)
    return dict(zip(FILES, found, strict=True))


def _spelling(folder: Path, name: str) -> Path:
    """The file, compressed or not; Kaggle's copy has a dot where the official name has a hyphen."""
    names = (name, name.replace("-idx", ".idx"))
    spellings = [folder / f"{spelling}{end}" for spelling in names for end in ("", ".gz")]
    return next((path for path in spellings if path.is_file()), spellings[0])


def _read_idx(path: Path, shape: tuple[int, ...], sha256: str | None) -> np.ndarray:
    """Reads an idx file of uint8 and checks its shape and, if given, its sha256.

    The format (LeCun's page): two zero bytes, the type, the number of dimensions, each dimension as a
    big-endian uint32, then the values.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read or unpacked ({error}); {_REMEDY}") from error
    header = bytes([0, 0, _UNSIGNED_BYTES, len(shape)])
    header += b"".join(size.to_bytes(4, "big") for size in shape)
    if data[: len(header)] != header or len(data) != len(header) + np.prod(shape):
        found = f"it has {len(data):,} and starts with {data[: len(header)].hex(' ')}"
        expected = f"{' x '.join(map(str, shape))} bytes, {found} instead of {header.hex(' ')}"
        raise DataError(f"{path}: not an idx file of {expected}; {_REMEDY}")
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{path}: not the official bytes (sha256 differs); {_REMEDY}")
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)
