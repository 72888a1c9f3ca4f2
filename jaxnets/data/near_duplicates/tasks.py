"""The tasks of a search, which worker processes run: functions of a chunk of items and the search's folder.

Each returns its result, which becomes a file, and messages of images that cannot be read.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from jaxnets.data.images import read_image
from jaxnets.data.near_duplicates import candidates, correlation, features
from jaxnets.data.near_duplicates.features import Settings
from jaxnets.data.near_duplicates.task_runner import Computed
from jaxnets.data.near_duplicates.verification import PAIR, matchable, verify
from jaxnets.errors import DataError

IMAGES = 250  # in each file of features
_LOADED = 500  # images whose descriptors a task holds, 150 kB each

T = TypeVar("T")


class FeatureFiles:
    """The features of all images by index, memory-mapped from the files of the first stage."""

    def __init__(self, folder: Path):
        self._parts = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("describe-*.npy"))]

    def __getitem__(self, index: int) -> np.ndarray:
        return self._parts[index // IMAGES][index % IMAGES]

    def field(self, name: str) -> np.ndarray:
        """One field of all images: [N, ...]."""
        return np.concatenate([part[name] for part in self._parts])

    def spectra(self) -> Iterator[np.ndarray]:
        """float32[P, rings, frequencies] of the P images of each file."""
        return (part["spectrum"] for part in self._parts)

    @functools.cached_property
    def small(self) -> np.ndarray:
        """SMALL[M], of the small images."""
        found = (part["small"][part["is_small"]].ravel() for part in self._parts if part["is_small"].any())
        return np.concatenate(list(found))


# A worker process opens the files of the one search that it works for once.
_open_features = functools.lru_cache(maxsize=1)(FeatureFiles)


def describe_images(paths: Sequence[Path], max_pixels: int, settings: Settings) -> Computed:
    """The features of images: records of `feature_type` with as many keypoints as any of them has."""
    records = np.zeros(len(paths), features.feature_type(settings, settings.keypoints))
    unreadable = []
    for row, path in enumerate(paths):
        try:
            image = read_image(path, max_pixels=max_pixels)
        except DataError as error:
            unreadable.append(str(error))
            continue
        records[row] = features.describe(image, settings)
        if records["is_small"][row]:
            records["small"][row] = correlation.describe_small(image, records["size"][row])
    most, has_small = records["count"].max(), records["is_small"].any()
    compact = np.zeros(len(records), features.feature_type(settings, int(most), int(has_small)))
    for name in records.dtype.names or ():
        compact[name] = records[name][tuple(map(slice, compact[name].shape))]
    return compact, unreadable


def similar(rows: np.ndarray, folder: Path, labels: np.ndarray, settings: Settings) -> Computed:
    return correlation.small_candidates(_open_features(folder).small, labels, rows, settings), []


def correlate_pairs(pairs: np.ndarray, folder: Path, settings: Settings) -> Computed:
    """PAIR[P]: maps between pairs of small images, by their positions int32[P, 2] among these."""
    records = _open_features(folder).small
    fit = functools.partial(correlation.correlate, settings=settings)
    return _fit_pairs(pairs, lambda place: correlation.views(records[place]), fit), []


def copies(rows: np.ndarray, folder: Path, labels: np.ndarray, settings: Settings) -> Computed:
    records = _open_features(folder)
    spectra = np.array([records[row]["spectrum"] for row in rows.tolist()])
    return candidates.candidate_copies(spectra, records.spectra(), labels, rows, settings), []


def make_vocabulary(images: np.ndarray, folder: Path, settings: Settings) -> Computed:
    """The visual words of a sample of the keypoints of `images`."""
    records = _open_features(folder)
    counts = records.field("count")[images]
    size = min(settings.words, int(counts.sum()) // candidates.MIN_PER_WORD)
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
    chosen = [records[image] for image in images.tolist()]
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
    return _fit_pairs(pairs, lambda row: matchable(records[row]), fit), []


def _fit_pairs(
    pairs: np.ndarray, load: Callable[[int], T], fit: Callable[[T, T], np.ndarray | None]
) -> np.ndarray:
    load = functools.lru_cache(maxsize=_LOADED)(load)
    found = []
    for first, second in pairs.tolist():
        record = fit(load(first), load(second))
        if record is not None:
            record["first"], record["second"] = first, second
            found.append(record)
    return np.array(found, PAIR)
