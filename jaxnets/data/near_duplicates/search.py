"""The search: verified pairs of images give the originals, and the groups of originals that overlap."""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jaxnets.data.groups import Groups, in_order
from jaxnets.data.near_duplicates import candidates, correlation, features, tasks
from jaxnets.data.near_duplicates.features import Settings
from jaxnets.data.near_duplicates.task_runner import Computed, TaskRunner
from jaxnets.data.near_duplicates.verification import PAIR
from jaxnets.data.sources.image_folder import ImageFiles

ALGORITHM_VERSION = 5  # incremented when results of earlier versions must not be reused
ROWS, PAIRS = 1_000, 2_000  # per task: images to compare with all others, pairs to verify


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Two originals that may show the same content, with numbers `first` < `second`.

    `pairs` are the verified pairs of their images, strongest first; `joined` is whether they form one group.
    """

    first: int
    second: int
    joined: bool
    strong: int
    pairs: np.ndarray

    @property
    def inliers(self) -> int:
        """The most inliers of any pair."""
        return int(self.pairs["inliers"][0])

    @property
    def common_fraction(self) -> float:
        """The median fraction of the area that the pairs have in common."""
        return float(np.median(self.pairs["share"]))


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """What a search of N images found.

    Attributes:
        files: the names of the images.
        originals: int[N], equal for copies of one photograph.
        groups: int[N], equal for images that share content: copies, and photographs that overlap.
        pairs: records of `verification.PAIR`: verified pairs of images (`first` < `second`) and evidence.
        overlaps: pairs of originals with verified pairs, joined into one group or not.
        compared: the number of pairs that were compared.
        too_plain: bool[N], images with fewer than `overlap_inliers` keypoints, of which only exact copies are
            found.
        contents: int[N], equal for images with the same pixels.
        is_test: bool[N], images of the folders that were given as `against`.
    """

    files: tuple[str, ...]
    originals: np.ndarray
    groups: np.ndarray
    pairs: np.ndarray
    overlaps: list[Overlap]
    compared: int
    too_plain: np.ndarray
    contents: np.ndarray
    is_test: np.ndarray

    @property
    def leaked(self) -> np.ndarray:
        """The indices of the test images in a group with another image that is not a test image."""
        others = self.groups[~self.is_test]
        return np.flatnonzero(self.is_test & np.isin(self.groups, others))

    def to_groups(self, name: str) -> Groups:
        """The table of groups; errors refer to it as `name`."""
        labels = zip(map(str, self.originals), map(str, self.groups), strict=True)
        return Groups(name, dict(zip(self.files, labels, strict=True)))


def search(
    images: ImageFiles, settings: Settings, runner: TaskRunner, is_test: np.ndarray | None = None
) -> Duplicates:
    """Finds copies, then overlaps of a few images per original, then verifies these with more images."""
    runner.folder.mkdir(exist_ok=True)
    paths = [images.root / file for file in images.files]
    runner.stage("describe", tasks.IMAGES, tasks.describe_images, paths, images.max_pixels, settings)
    records = tasks.FeatureFiles(runner.folder)
    _, contents = np.unique(records.field("pixels"), axis=0, return_inverse=True)
    small, small_tried = _search_small(images, records, settings, runner)
    copies, tried = _search_copies(images, records, settings, runner)
    pairs = np.concatenate([small, copies])
    pairs, tried = _search_overlaps(pairs, tried, contents, images, records, settings, runner)
    originals = find_originals(pairs, contents, settings)
    overlaps = find_overlaps(pairs, originals, settings)
    return Duplicates(
        files=images.files,
        originals=originals,
        groups=join_overlaps(originals, overlaps),
        pairs=pairs,
        overlaps=overlaps,
        compared=len(tried) + small_tried,
        too_plain=~records.field("is_small") & (records.field("count") < settings.overlap_inliers),
        contents=contents,
        is_test=np.zeros(len(images), bool) if is_test is None else is_test,
    )


def _search_small(
    images: ImageFiles, records: tasks.FeatureFiles, settings: Settings, runner: TaskRunner
) -> tuple[np.ndarray, int]:
    """Verified pairs of small images, and the number of compared ones."""
    small = np.flatnonzero(records.field("is_small"))
    if not len(small):
        return np.zeros(0, PAIR), 0
    labels, rows = images.labels[small], np.arange(len(small))
    found = runner.stage("similar", ROWS, tasks.similar, rows, runner.folder, labels, settings)
    tried = np.unique(np.concatenate(found), axis=0)
    compared = _stage_of_pairs("correlate", tasks.correlate_pairs, tried, settings, runner)
    strong = compared[compared["correlation"] >= settings.small_correlation]
    components = connected(np.stack([strong["first"], strong["second"]], 1), len(small))
    others = correlation.next_correlations(compared, records.small, settings)
    has_many_copies = others >= settings.small_correlation
    has_many_copies &= records.small["background"] < settings.small_background
    drawn = correlation.draw_pairs(components, has_many_copies, settings)
    drawn = _stage_of_pairs("sample", tasks.correlate_pairs, drawn, settings, runner)
    pairs = correlation.select_copies(compared, drawn, components, others, settings)
    for end in ("first", "second"):
        pairs[end] = small[pairs[end]]
    return pairs, len(tried)


def _search_copies(
    images: ImageFiles, records: tasks.FeatureFiles, settings: Settings, runner: TaskRunner
) -> tuple[np.ndarray, np.ndarray]:
    """Verified pairs of images with similar spectra, and all compared pairs int32[P, 2]."""
    rows = np.flatnonzero(~records.field("is_small"))
    found = runner.stage("compare", ROWS, tasks.copies, rows, runner.folder, images.labels, settings)
    tried = np.unique(np.concatenate([np.zeros((0, 2), np.int32), *found]), axis=0)
    return _stage_of_pairs("copies", tasks.verify_pairs, tried, settings, runner), tried


def _search_overlaps(
    pairs: np.ndarray,
    tried: np.ndarray,
    contents: np.ndarray,
    images: ImageFiles,
    records: tasks.FeatureFiles,
    settings: Settings,
    runner: TaskRunner,
) -> tuple[np.ndarray, np.ndarray]:
    """Adds verified pairs of images of different originals to `pairs`, and compared ones to `tried`."""
    folder, stage = runner.folder, runner.stage
    originals = find_originals(pairs, contents, settings)
    chosen = np.concatenate(representatives(pairs, originals, settings.representatives, settings))
    chosen = chosen[records.field("count")[chosen] > 0]
    if records.field("count")[chosen].sum() >= candidates.MIN_PER_WORD:
        stage("codebook", len(chosen), tasks.make_vocabulary, chosen, folder, settings)
        stage("words", tasks.IMAGES, tasks.visual_words, chosen, folder, settings)
        owners, labels, rows = originals[chosen], images.labels[chosen], np.arange(len(chosen))
        found = stage("rank", ROWS, tasks.overlaps, rows, folder, owners, labels, settings)
        new = np.unique(np.sort(chosen[np.concatenate(found)], axis=1), axis=0).astype(np.int32)
        new = exclude(new, tried)
        verify = functools.partial(tasks.verify_pairs, quick=False)  # hardly any are copies
        verified = _stage_of_pairs("overlaps", verify, new, settings, runner)
        pairs, tried = np.concatenate([pairs, verified]), np.concatenate([tried, new])
    originals = find_originals(pairs, contents, settings)
    more = representatives(pairs, originals, settings.overlap_members, settings)
    new = exclude(cross_pairs(more, find_overlaps(pairs, originals, settings)), tried)
    verified = _stage_of_pairs("certain", tasks.verify_pairs, new, settings, runner)
    return np.concatenate([pairs, verified]), np.concatenate([tried, new])


def _stage_of_pairs(
    name: str, compute: Callable[..., Computed], pairs: np.ndarray, settings: Settings, runner: TaskRunner
) -> np.ndarray:
    """PAIR[V]: the verified ones of `pairs`, int32[P, 2]."""
    return np.concatenate(
        [np.zeros(0, PAIR), *runner.stage(name, PAIRS, compute, pairs, runner.folder, settings)]
    )


def is_same_original(pairs: np.ndarray, settings: Settings) -> np.ndarray:
    """bool[P]: pairs with strong maps that align the centres, or of small images, as those between copies."""
    strong = pairs["inliers"] >= settings.original_inliers
    return (strong & (pairs["centre"] <= settings.original_centre)) | (pairs["correlation"] > 0)


def find_originals(pairs: np.ndarray, identical: np.ndarray, settings: Settings) -> np.ndarray:
    """int[N]: each image's original, numbered in order of appearance.

    `identical` is int[N], equal for images with the same pixels, which need no verification.
    """
    selected = pairs[is_same_original(pairs, settings)]
    _, first, inverse = np.unique(identical, return_index=True, return_inverse=True)
    same = np.stack([first[inverse], np.arange(len(identical))], 1)
    links = np.concatenate([np.stack([selected["first"], selected["second"]], 1), same])
    return connected(links, len(identical))


def connected(links: np.ndarray, count: int) -> np.ndarray:
    """int[count]: connected components of links int[L, 2], numbered in order of appearance."""
    ones = np.ones(len(links), bool)
    graph = coo_array((ones, (links[:, 0], links[:, 1])), shape=(count, count))
    return in_order(connected_components(graph, directed=False)[1].tolist())


def representatives(pairs: np.ndarray, labels: np.ndarray, most: int, settings: Settings) -> list[np.ndarray]:
    """For each original, up to `most` images with the most links to its other images."""
    links = pairs[is_same_original(pairs, settings)]
    degree = np.bincount(links["first"], minlength=len(labels))
    degree += np.bincount(links["second"], minlength=len(labels))
    order = np.lexsort((np.arange(len(labels)), -degree, labels))
    bounds = np.searchsorted(labels[order], np.arange(labels.max() + 2))
    return [order[a : min(b, a + most)] for a, b in itertools.pairwise(bounds)]


def cross_pairs(members: list[np.ndarray], found: list[Overlap]) -> np.ndarray:
    """int32[P, 2]: all unique pairs of images between the two originals of every overlap."""
    ends = ((members[overlap.first], members[overlap.second]) for overlap in found)
    pairs = [np.stack(np.meshgrid(first, second), -1).reshape(-1, 2) for first, second in ends]
    pairs = np.concatenate([np.zeros((0, 2), np.int32), *pairs])
    return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int32)


def exclude(pairs: np.ndarray, done: np.ndarray) -> np.ndarray:
    """The rows of int32[P, 2] that are not in `done`, int32[D, 2]; both are sorted within rows."""
    keys, known = (rows[:, 0].astype(np.int64) << 32 | rows[:, 1].astype(np.int64) for rows in (pairs, done))
    return pairs[~np.isin(keys, known)]


def find_overlaps(pairs: np.ndarray, labels: np.ndarray, settings: Settings) -> list[Overlap]:
    """Summarises the verified pairs between every two originals that have any, in order of their numbers."""
    ends = np.sort(np.stack([labels[pairs["first"]], labels[pairs["second"]]], 1), axis=1)
    apart = np.flatnonzero(ends[:, 0] != ends[:, 1])
    order = apart[np.lexsort((-pairs["inliers"][apart], ends[apart, 1], ends[apart, 0]))]
    starts = np.flatnonzero((np.diff(ends[order], axis=0, prepend=-1) != 0).any(1))
    sizes = np.bincount(labels)
    found = []
    for rows in np.split(order, starts[1:]) if len(order) else []:
        first, second = map(int, ends[rows[0]])
        strong = int((pairs["inliers"][rows] >= settings.overlap_inliers).sum())
        needed = min(settings.overlap_pairs, int(sizes[first] * sizes[second]))
        found.append(Overlap(first, second, strong >= needed, strong, pairs[rows]))
    return found


def join_overlaps(labels: np.ndarray, found: list[Overlap]) -> np.ndarray:
    """int[N]: each image's group, numbered in order of appearance."""
    links = [(overlap.first, overlap.second) for overlap in found if overlap.joined]
    return connected(np.array(links, np.int64).reshape(-1, 2), int(labels.max()) + 1)[labels]


def cache_key(images: ImageFiles, settings: Settings) -> str:
    """A hash of everything that the results depend on."""
    import sklearn  # slow to import

    sizes = (tasks.IMAGES, ROWS, PAIRS)
    versions = (ALGORITHM_VERSION, features.opencv().__version__, sklearn.__version__)
    labels = images.labels.tolist()  # candidates are searched in each class first
    key = [versions, sizes, images.fingerprint, labels, dataclasses.asdict(settings)]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def use_one_thread() -> None:
    """The worker processes provide the parallelism."""
    import threadpoolctl

    features.opencv().setNumThreads(1)
    threadpoolctl.threadpool_limits(1)
