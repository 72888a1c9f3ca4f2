"""Laying out a data set once, under ROOT/NAME, and opening it ever after."""

import contextlib
import importlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxnets.data.acquire.download import download, extract, is_archive
from jaxnets.data.sources import cifar10, lc25000, mnist
from jaxnets.data.sources.base import Source
from jaxnets.data.sources.cifar10 import CIFAR10
from jaxnets.data.sources.image_folder import Progress, is_image_name
from jaxnets.data.sources.lc25000 import LC25000Lung
from jaxnets.data.sources.mnist import MNIST
from jaxnets.errors import ConfigError, DataError, MachineError
from jaxnets.io import atomic_write, lock_and_remove

MARKER = "prepared.json"
"""Written last into ROOT/NAME; what is beside it has been checked."""

MNIST_HOSTS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
LC25000_PAGE = "https://github.com/tampapath/lung_colon_image_set"
LC25000_KAGGLE = "andrewmvd/lung-and-colon-cancer-histopathological-images"


@dataclass(frozen=True)
class Prepared:
    """What `prepare` has laid out; the same is in the marker, but for the last two."""

    name: str
    examples: int
    examples_per_class: dict[str, int]
    fingerprint: str
    origin: str
    path: str
    already: bool


@dataclass(frozen=True)
class Layout:
    """How one data set is opened, found and fetched."""

    open: Callable[[Path], Source]
    find: Callable[[Path], list[tuple[str, Path]]]
    """The set's files at or below a folder, each with its place below ROOT/NAME; DataError."""
    is_member: Callable[[str], bool]
    """Whether a file of that name in an archive belongs to the set."""
    fetch: Callable[[Path, Progress | None, Callable[[str], None]], tuple[Path, str]]
    """Downloads into a folder, naming each address; gives the folder or archive that holds the set,
    and its origin.
    """


def prepare(
    name: str,
    root: str | os.PathLike[str],
    *,
    from_path: str | os.PathLike[str] | None = None,
    kaggle: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Prepared:
    """Lays out "lc25000_lung", "mnist" or "cifar10" in ROOT/NAME, checks it and marks it.

    The files come from `from_path`, a folder or an archive (zip, tar), or from Kaggle, or else
    from their usual host. They are hard-linked, or copied where that cannot be, into a folder
    beside ROOT/NAME that is renamed when it is complete; a second run says `already`. Of two at
    the same time the second waits for the first; what a killed one left is removed.
    `progress` counts the bytes of a download, then files; `say` is given a line for a person
    before each wait. Raises DataError where the files are
    missing, damaged or not to be had, MachineError where they cannot be written.
    """
    layout = _layout(name)
    root = Path(root).absolute()
    folder = root / name
    try:
        if (folder / MARKER).is_file():
            layout.find(folder)
            return _read_marker(folder)
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root, name, say):
            return _prepare(name, root, from_path, kaggle=kaggle, progress=progress, say=say)
    except OSError as error:
        raise MachineError(
            f"{error.filename or folder}: {error.strerror}; free space, mend the permissions or "
            "give another data folder"
        ) from error


def _alone(
    root: Path, name: str, say: Callable[[str], None]
) -> contextlib.AbstractContextManager[None]:
    """Waits until no other process prepares the same data set; a killed one is no hindrance."""
    if not os.access(root, os.W_OK):  # nothing will be laid out there, but what is there may do
        return contextlib.nullcontext()
    waits = f"another process is preparing {name} in {root}: waiting for it"
    return lock_and_remove(root / f".{name}.lock", before_waiting=lambda: say(waits))


def _prepare(
    name: str,
    root: Path,
    from_path: str | os.PathLike[str] | None,
    *,
    kaggle: bool,
    progress: Progress | None,
    say: Callable[[str], None],
) -> Prepared:
    """What `prepare` does once it is alone."""
    layout, folder, downloads = _layout(name), root / name, root / f".{name}.download"
    if (folder / MARKER).is_file():  # by the process that was waited for
        return _read_marker(folder)
    if from_path is None and not kaggle and (found := _find(name, root)):
        return _adopt(name, found, mark=found == folder)
    if folder.is_dir() and any(folder.iterdir()):
        return _adopt(name, folder, mark=True)
    if from_path is not None:
        place = Path(from_path).absolute()
        return _lay_out(name, folder, place, str(place), progress)
    if kaggle:
        return _lay_out(name, folder, *_from_kaggle(name), progress)
    prepared = _lay_out(name, folder, *layout.fetch(downloads, progress, say), progress)
    shutil.rmtree(downloads)
    return prepared


def is_prepared(name: str, root: str | os.PathLike[str]) -> bool:
    """Whether `open_prepared` finds the data set: by its marker, or by names and counts."""
    return _find(name, Path(root)) is not None


def what_is_wrong(name: str, root: str | os.PathLike[str]) -> str | None:
    """Why ROOT/NAME is not the data set although it is there; None where it is, or where nothing is."""
    folder = Path(root) / name
    if is_prepared(name, root) or not folder.is_dir() or not any(folder.iterdir()):
        return None
    try:
        _layout(name).find(folder)
    except DataError as error:
        return str(error)
    return None


def open_prepared(name: str, root: str | os.PathLike[str]) -> Source:
    """Opens the data set in ROOT/NAME or, complete but never marked, anywhere it is known in ROOT.

    Raises DataError that says what was found, what is wanted and how to get it.
    """
    layout = _layout(name)
    folder = _find(name, Path(root))
    # Where nothing was found, opening says best what there is.
    return layout.open(folder or Path(root))


def _layout(name: str) -> Layout:
    if name not in LAYOUTS:
        raise DataError(f"no data set {name!r} can be prepared; there are {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def _find(name: str, root: Path) -> Path | None:
    layout = _layout(name)
    folder = root / name
    # A marked set whose files have gone is an error when it is opened, not a set never there.
    if (folder / MARKER).is_file():
        return folder
    for place in (folder, root):
        try:
            layout.find(place)
        except DataError:
            continue
        return place
    return None


def _adopt(name: str, folder: Path, *, mark: bool) -> Prepared:
    """Checks files put there by hand, or left by a run killed just before it wrote the marker."""
    try:
        source = _layout(name).open(folder)
        record = _record(name, source, "already there")
    except DataError as error:
        raise DataError(
            f"{folder}: holds files, but not a whole {name}; move it away and start again ({error})"
        ) from error
    # A read-only folder can do without: it is found by its names and counts.
    if mark and os.access(folder, os.W_OK):
        _write_marker(folder, record)
    return Prepared(**record, path=str(folder), already=True)


def _lay_out(
    name: str, folder: Path, origin: Path, described: str, progress: Progress | None
) -> Prepared:
    """Fills a folder beside `folder` from a folder or archive, checks it, and renames it."""
    layout = _layout(name)
    if origin.is_file() and layout.is_member(origin.name):
        origin = origin.parent
    if not origin.is_dir() and not is_archive(origin):
        what = "is neither a folder nor a whole zip or tar" if origin.exists() else "is not there"
        raise DataError(f"{origin}: {what}; give the folder or archive that holds {name}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.with_name(f".{name}.partial")
    if staging.exists():  # a killed process's: we hold the lock that it held
        shutil.rmtree(staging)
    staging.mkdir()
    try:
        if origin.is_file():
            extract(origin, staging / "unpacked", wanted=layout.is_member, progress=progress)
            origin = staging / "unpacked"
            origin.mkdir(exist_ok=True)  # an archive may hold nothing that is wanted
        ready = staging / "ready"
        files = _files_below(layout, origin)
        for done, (place, file) in enumerate(files, 1):
            _link(file, ready / place)
            if progress:
                progress(done, len(files))
        # Opening checks, and the fingerprint reads every byte, before the folder gets its name.
        record = _record(name, layout.open(ready), described)
        ready.rename(folder)
    finally:
        shutil.rmtree(staging)
    _write_marker(folder, record)
    return Prepared(**record, path=str(folder), already=False)


def _files_below(layout: Layout, origin: Path) -> list[tuple[str, Path]]:
    """Finds the set in a folder whose own folders may be named anyhow, three deep at most."""
    below = [folder for depth in ("*/", "*/*/", "*/*/*/") for folder in sorted(origin.glob(depth))]
    faults = []
    for folder in (origin, *below):
        try:
            return layout.find(folder)
        except DataError as error:
            faults.append(error)
    raise faults[0]


def _link(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file.resolve(), target)
    except OSError:  # another file system, or one without hard links, or another's file
        shutil.copyfile(file, target)


def _record(name: str, source: Source, origin: str) -> dict[str, Any]:
    counts = np.bincount(source.labels, minlength=len(source.classes)).tolist()
    return {
        "name": name,
        "examples": len(source),
        "examples_per_class": dict(zip(source.classes, counts, strict=True)),
        "fingerprint": source.fingerprint,
        "origin": origin,
    }


def _write_marker(folder: Path, record: Mapping[str, Any]) -> None:
    atomic_write(folder / MARKER, json.dumps(record, indent=2) + "\n")


def _read_marker(folder: Path) -> Prepared:
    try:
        record = json.loads((folder / MARKER).read_text())
        return Prepared(**record, path=str(folder), already=True)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{folder / MARKER}: not a record of a prepared data set ({error}); "
            "remove this file and prepare again"
        ) from error


def _find_lc25000(root: Path) -> list[tuple[str, Path]]:
    source = LC25000Lung(root)
    return [(f"lung_image_sets/{file}", source.root / file) for file in source.files]


def _is_lc25000(name: str) -> bool:
    path = PurePosixPath(name)
    stem = lc25000.FOLDERS.get(path.parent.name)
    return stem is not None and path.name.startswith(stem) and is_image_name(path.name)


def _fetch_lc25000(
    downloads: Path, progress: Progress | None, say: Callable[[str], None]
) -> tuple[Path, str]:
    raise DataError(
        "lc25000_lung: its authors give no address that a program can download; either get "
        f"LC25000.zip by hand ({LC25000_PAGE}) and add --from PATH, the zip or its unpacked "
        "folder, or add --kaggle (after pip install kagglehub)"
    )


def _from_kaggle(name: str) -> tuple[Path, str]:
    if name != "lc25000_lung":
        raise ConfigError(f"{name}: is not fetched from Kaggle; leave --kaggle out")
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError as error:
        raise ConfigError("kagglehub is not installed; run: pip install kagglehub") from error
    # Whatever goes wrong in there (network, account, quota), the mend is the same.
    try:
        return Path(kagglehub.dataset_download(LC25000_KAGGLE)), f"kaggle:{LC25000_KAGGLE}"
    except Exception as error:
        raise DataError(
            f"kagglehub cannot download {LC25000_KAGGLE} ({error}); check the network and the "
            "Kaggle account, or get the zip by hand and give it with --from PATH"
        ) from error


def _find_mnist(root: Path) -> list[tuple[str, Path]]:
    return [(path.name, path) for path in mnist.find_files(root).values()]


def _is_mnist(name: str) -> bool:
    return mnist.official_name(PurePosixPath(name).name) is not None


def _fetch_mnist(
    downloads: Path, progress: Progress | None, say: Callable[[str], None]
) -> tuple[Path, str]:
    for file in mnist.FILES.values():
        name = f"{file.name}.gz"
        urls = [host + name for host in MNIST_HOSTS]
        download(urls, downloads / name, sha256=file.gzip_sha256, progress=progress, say=say)
    return downloads, MNIST_HOSTS[0]


def _find_cifar10(root: Path) -> list[tuple[str, Path]]:
    return [
        (f"{cifar10.BINARY_FOLDER if path.suffix else cifar10.PYTHON_FOLDER}/{path.name}", path)
        for path in cifar10.find_files(root)
    ]


def _is_cifar10(name: str) -> bool:
    return PurePosixPath(name).name.removesuffix(".bin") in cifar10.BATCHES


def _fetch_cifar10(
    downloads: Path, progress: Progress | None, say: Callable[[str], None]
) -> tuple[Path, str]:
    archive = downloads / CIFAR10_URL.rpartition("/")[2]
    found = download([CIFAR10_URL], archive, md5=CIFAR10_MD5, progress=progress, say=say)
    return found, CIFAR10_URL


LAYOUTS = MappingProxyType(
    {
        "lc25000_lung": Layout(LC25000Lung, _find_lc25000, _is_lc25000, _fetch_lc25000),
        "mnist": Layout(MNIST, _find_mnist, _is_mnist, _fetch_mnist),
        "cifar10": Layout(CIFAR10, _find_cifar10, _is_cifar10, _fetch_cifar10),
    }
)
