"""The tasks of a search, which worker processes run: functions of a chunk of items and the search's folder.

Each returns its result, which becomes a file, and messages of images that cannot be read.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from jaxnets.data.images import read_image
from jaxnets.data.near_duplicates import candidates, correlation, features
from jaxnets.data.near_duplicates.features import Settings
from jaxnets.data.near_duplicates.verification import PAIR, verify
from jaxnets.data.sources.image_folder import ImageFiles
from jaxnets.errors import DataError

IMAGES = 250  # in each file of features

T = TypeVar("T")
Computed = tuple[np.ndarray, list[str]]
"""The result of a task, and messages of images that cannot be read."""


class FeatureFiles:
    """The features of all images by index, memory-mapped from the files of the first stage."""

    def __init__(self, folder: Path):
        self._parts = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("describe-*.npy"))]

    def __getitem__(self, index: int) -> np.ndarray:
        return self._parts[index // IMAGES][index % IMAGES]

    def field(self, name: str) -> np.ndarray:
        """One field of all images: [N, ...]."""
        return np.concatenate([part[name] for part in self._parts])

    @functools.cached_property
    def spectra(self) -> np.ndarray:
        """float32[N, rings, frequencies]."""
        return self.field("spectrum")


# A worker process opens the files of the one search that it works for once.
_open_features = functools.lru_cache(maxsize=1)(FeatureFiles)


def describe_images(paths: Sequence[Path], max_pixels: int, settings: Settings) -> Computed:
    """The features of images: records of `feature_type`."""
    records = np.zeros(len(paths), features.feature_type(settings))
    unreadable = []
    for row, path in enumerate(paths):
        try:
            records[row] = features.describe(read_image(path, max_pixels=max_pixels), settings)
        except DataError as error:
            unreadable.append(str(error))
    return records, unreadable


def describe_small(rows: np.ndarray, images: ImageFiles, folder: Path, settings: Settings) -> Computed:
    """The SMALL records of the images `rows`."""
    records = _open_features(folder)
    found = np.zeros(len(rows), correlation.SMALL)
    for place, row in enumerate(rows.tolist()):
        image = read_image(images.root / images.files[row], max_pixels=images.max_pixels)
        found[place] = correlation.describe_small(image, row, records[row]["size"])
    return found, []


@functools.lru_cache(maxsize=1)
def _open_small(folder: Path) -> np.ndarray:
    return np.concatenate([np.load(path) for path in sorted(folder.glob("small-*.npy"))])


def similar(rows: np.ndarray, folder: Path, labels: np.ndarray, settings: Settings) -> Computed:
    return correlation.small_candidates(_open_small(folder), labels, rows, settings), []


def correlate_pairs(pairs: np.ndarray, folder: Path, settings: Settings) -> Computed:
    """PAIR[P]: maps between pairs of small images, by their positions int32[P, 2] among these."""
    records = _open_small(folder)
    views = functools.lru_cache(maxsize=4096)(lambda place: correlation.views(records[place]))
    fit = functools.partial(correlation.correlate, settings=settings)
    return _pair_records(pairs, ((views(a), views(b)) for a, b in pairs.tolist()), fit), []


def copies(rows: np.ndarray, folder: Path, labels: np.ndarray, settings: Settings) -> Computed:
    return candidates.candidate_copies(_open_features(folder).spectra, labels, rows, settings), []


def make_vocabulary(images: np.ndarray, folder: Path, settings: Settings) -> Computed:
    """The visual words of a sample of the keypoints of `images`."""
    records = _open_features(folder)
    counts = records.field("count")[images]
    size = min(settings.words, int(counts.sum()) // candidates.MIN_PER_WORD)
    if not size:
        return np.zeros((0, features.DESCRIPTOR), np.float32), []
    ends = np.cumsum(counts)
    most = candidates.SAMPLE_PER_WORD * size
    chosen = np.sort(np.random.default_rng(0).permutation(ends[-1])[:most])
    image = np.searchsorted(ends, chosen, side="right")
    keypoint = chosen - (ends - counts)[image]
    found = zip(images[image].tolist(), keypoint.tolist(), strict=True)
    descriptors = np.array([records[row]["descriptors"][place] for row, place in found])
    return candidates.make_vocabulary(descriptors, size), []


def visual_words(images: np.ndarray, folder: Path, settings: Settings) -> Computed:
    records, vocabulary = _open_features(folder), np.load(folder / "codebook-00000.npy")
    chosen = np.array([records[image] for image in images.tolist()])
    return candidates.visual_words(chosen, vocabulary, settings), []


def overlaps(
    rows: np.ndarray, folder: Path, owners: np.ndarray, labels: np.ndarray, settings: Settings
) -> Computed:
    """Pairs of positions in `owners` and `labels`, the originals and classes of the images with words."""
    return _open_words(folder, owners.tobytes(), labels.tobytes()).candidates(rows, settings), []


@functools.lru_cache(maxsize=1)
def _open_words(folder: Path, owners: bytes, labels: bytes) -> candidates.WordIndex:
    words = np.concatenate([np.load(path) for path in sorted(folder.glob("words-*.npy"))])
    size = len(np.load(folder / "codebook-00000.npy"))
    return candidates.WordIndex.build(
        words, np.frombuffer(owners, np.int64), np.frombuffer(labels, np.int32), size
    )


def verify_pairs(pairs: np.ndarray, folder: Path, settings: Settings, *, quick: bool = True) -> Computed:
    """PAIR[V]: maps between pairs of images, int32[P, 2], without those that have none."""
    records = _open_features(folder)
    fit = functools.partial(verify, settings=settings, quick=quick)
    return _pair_records(pairs, ((records[a], records[b]) for a, b in pairs.tolist()), fit), []


def _pair_records(
    pairs: np.ndarray, records: Iterable[tuple[T, T]], fit: Callable[[T, T], np.ndarray | None]
) -> np.ndarray:
    found = []
    for (first, second), (here, there) in zip(pairs.tolist(), records, strict=True):
        record = fit(here, there)
        if record is not None:
            record["first"], record["second"] = first, second
            found.append(record)
    return np.array(found, PAIR)
