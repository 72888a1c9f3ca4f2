"""Prepares data sets under ROOT/NAME: gets their files, checks and marks them."""

import contextlib
import importlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from jaxnets.data.acquire.download import download, extract, is_archive
from jaxnets.data.sources.base import MARKER, PreparedSource, Progress
from jaxnets.data.sources.cifar10 import CIFAR10
from jaxnets.data.sources.lc25000 import LC25000Lung
from jaxnets.data.sources.mnist import MNIST
from jaxnets.errors import ConfigError, DataError, MachineError
from jaxnets.io import atomic_write, lock_and_remove

LC25000_PAGE = "https://github.com/tampapath/lung_colon_image_set"
LC25000_KAGGLE = "andrewmvd/lung-and-colon-cancer-histopathological-images"
SOURCES: dict[str, type[PreparedSource]] = {source.name: source for source in (LC25000Lung, MNIST, CIFAR10)}


@dataclass(frozen=True)
class Prepared:
    """A prepared data set; the marker has all fields but the last two."""

    name: str
    examples: int
    examples_per_class: dict[str, int]
    fingerprint: str
    origin: str
    path: str
    already: bool


def prepare(
    name: str,
    root: str | Path,
    *,
    from_path: str | Path | None = None,
    kaggle: bool = False,
    progress: Progress | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Prepared:
    """Prepares "lc25000_lung", "mnist" or "cifar10" in ROOT/NAME: gets the files, checks and marks them.

    The files come from `from_path`, a folder or an archive (zip, tar), or from Kaggle, or from their usual
    host. They are hard-linked, or copied if that is impossible, into a temporary folder that is renamed when
    it is complete. A second process waits for the first; leftovers of a killed one are removed. `progress`
    counts downloaded bytes, then files; `log` is called with a line of text before each wait. Raises
    ConfigError for both origins, DataError if files are missing, damaged or not available, MachineError if
    they cannot be written.
    """
    if name not in SOURCES:
        raise DataError(f"data set {name!r} cannot be prepared; choose one of {', '.join(SOURCES)}")
    if from_path is not None and kaggle:
        raise ConfigError("--from and --kaggle are two sources of the data: give one of them")
    source, root = SOURCES[name], Path(root).absolute()
    folder, downloads = root / name, root / f".{name}.download"
    message = f"another process is preparing {name} in {root}: waiting for it"
    lock = lock_and_remove(root / f".{name}.lock", before_waiting=lambda: log(message))
    try:
        if (folder / MARKER).is_file():
            source.find_members(folder)
            return _read_marker(folder)
        root.mkdir(parents=True, exist_ok=True)
        # Without write permission an existing data set can still be used.
        with lock if os.access(root, os.W_OK) else contextlib.nullcontext():
            if (folder / MARKER).is_file():  # by another process, while we waited
                return _read_marker(folder)
            found = source.locate(root) if from_path is None and not kaggle else None
            if found or any(folder.glob("*")):
                return _adopt(source, found or folder, mark=found in (folder, None))
            if from_path is not None:
                origin = Path(from_path).absolute()
                described = str(origin)
            elif kaggle:
                origin, described = _download_from_kaggle(name), f"kaggle:{LC25000_KAGGLE}"
            else:
                origin = _download(source, downloads, progress, log)
                described = source.downloads[0].urls[0]
            prepared = _install(source, folder, origin, described, progress)
            shutil.rmtree(downloads, ignore_errors=True)
            return prepared
    except OSError as error:
        remedy = "free disk space, fix the permissions or choose another data folder"
        raise MachineError(f"{error.filename or folder}: {error.strerror}; {remedy}") from error


def _download(
    source: type[PreparedSource], folder: Path, progress: Progress | None, log: Callable[[str], None]
) -> Path:
    """Downloads a data set's files into a folder; returns the folder, or the one file."""
    if not source.downloads:
        raise DataError(
            f"{source.name} cannot be downloaded automatically from its authors; download LC25000.zip "
            f"manually ({LC25000_PAGE}) and pass the zip or its unpacked folder with --from PATH, "
            "or add --kaggle (after pip install kagglehub)"
        )
    files = [
        download(urls, folder / urls[0].rpartition("/")[2], digest, progress=progress, log=log)
        for urls, digest in source.downloads
    ]
    return folder if len(files) > 1 else files[0]


def _download_from_kaggle(name: str) -> Path:
    if name != "lc25000_lung":
        raise ConfigError(f"{name} is not available from Kaggle; omit --kaggle")
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError as error:
        raise ConfigError("kagglehub is not installed; run: pip install kagglehub") from error
    try:
        return Path(kagglehub.dataset_download(LC25000_KAGGLE))
    except Exception as error:  # network, account or quota
        remedy = "check network and account, or download the zip manually and pass it with --from PATH"
        raise DataError(f"kagglehub cannot download {LC25000_KAGGLE} ({error}); {remedy}") from error


def _adopt(source: type[PreparedSource], folder: Path, *, mark: bool) -> Prepared:
    """Checks existing files, from the user or from a process killed before it wrote the marker."""
    try:
        prepared = _check(source, folder, "already there", already=True)
    except DataError as error:
        problem = f"contains files, but not a complete {source.name}; move it away and start again"
        raise DataError(f"{folder}: {problem} ({error})") from error
    # A read-only folder needs no marker: it is found by names and counts.
    if mark and os.access(folder, os.W_OK):
        _write_marker(prepared)
    return prepared


def _install(
    source: type[PreparedSource], folder: Path, origin: Path, described: str, progress: Progress | None
) -> Prepared:
    """Fills a temporary folder from a folder or archive, checks it, and renames it to `folder`."""
    if origin.is_file() and source.is_member(origin.name):
        origin = origin.parent
    if not origin.is_dir() and not is_archive(origin):
        what = "is neither a folder nor a valid zip or tar" if origin.exists() else "does not exist"
        raise DataError(f"{origin}: {what}; give the folder or archive that contains {source.name}")
    staging = folder.with_name(f".{source.name}.partial")
    if staging.exists():  # of a killed process: we hold the lock
        shutil.rmtree(staging)
    staging.mkdir()
    try:
        if origin.is_file():
            extract(origin, staging / "unpacked", wanted=source.is_member, progress=progress)
            origin = staging / "unpacked"
            origin.mkdir(exist_ok=True)  # the archive may not contain any wanted file
        ready = staging / "ready"
        files = _find_below(source, origin)
        for done, (path, file) in enumerate(files, 1):
            target = ready / path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file.resolve(), target)
            except OSError:  # another file system, no support for hard links, or no permission
                shutil.copyfile(file, target)
            if progress:
                progress(done, len(files))
        # Opening checks the files, and the fingerprint reads every byte, before the rename.
        prepared = replace(_check(source, ready, described, already=False), path=str(folder))
        ready.rename(folder)
    finally:
        shutil.rmtree(staging)
    _write_marker(prepared)
    return prepared


def _find_below(source: type[PreparedSource], origin: Path) -> list[tuple[str, Path]]:
    """Finds the data set in a folder or its subfolders, at most three levels deep."""
    below = [folder for depth in ("*/", "*/*/", "*/*/*/") for folder in sorted(origin.glob(depth))]
    errors = []
    for folder in (origin, *below):
        try:
            return source.find_members(folder)
        except DataError as error:
            errors.append(error)
    raise errors[0]


def _check(source: type[PreparedSource], folder: Path, origin: str, *, already: bool) -> Prepared:
    """Opens a data set and reads every byte; raises DataError if anything is wrong."""
    opened = source(folder)
    counts = np.bincount(opened.labels, minlength=len(opened.classes)).tolist()
    per_class = dict(zip(opened.classes, counts, strict=True))
    return Prepared(source.name, len(opened), per_class, opened.fingerprint, origin, str(folder), already)


def _write_marker(prepared: Prepared) -> None:
    record = {name: value for name, value in asdict(prepared).items() if name not in ("path", "already")}
    atomic_write(Path(prepared.path) / MARKER, json.dumps(record, indent=2) + "\n")


def _read_marker(folder: Path) -> Prepared:
    try:
        record = json.loads((folder / MARKER).read_text())
        return Prepared(**record, path=str(folder), already=True)
    except (ValueError, TypeError) as error:
        problem = f"not a valid record of a prepared data set ({error}); remove it and prepare again"
        raise DataError(f"{folder / MARKER}: {problem}") from error
