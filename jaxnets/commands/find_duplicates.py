"""Find near-duplicates in a folder of images: copies of a photograph, and overlapping photographs."""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxnets.data.groups import Groups
from jaxnets.data.images import MAX_PIXELS, all_unreadable, read_image
from jaxnets.data.near_duplicates import grouping, montage, tasks
from jaxnets.data.near_duplicates.features import opencv
from jaxnets.data.near_duplicates.listing import list_images
from jaxnets.data.near_duplicates.settings import Settings
from jaxnets.data.near_duplicates.verification import PAIR
from jaxnets.data.sources.image_folder import ImageFiles
from jaxnets.errors import ConfigError
from jaxnets.experiment import workdir
from jaxnets.io import atomic_replace, atomic_write
from jaxnets.runtime.console import Reporter
from jaxnets.runtime.worker_pool import worker_pool

ALGORITHM_VERSION = 1
"""Incremented when results of earlier versions must not be reused."""
MONTAGE_ROWS = 24


def find_duplicates(
    arguments: Sequence[str],
    *,
    out: str,
    work: str | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    settings: Settings | None = None,
) -> None:
    """Writes `out` (file,original,group), a .json with statistics and two .jpg montages.

    A search that was killed resumes from the finished tasks in `work`. Raises ConfigError for wrong arguments
    or if OpenCV is missing, DataError for unreadable images, MachineError if `work` is locked or read-only.
    """
    if len(arguments) != 1:
        raise ConfigError("give one folder of images: find_duplicates.py DIR")
    folder_of_images, target, settings = Path(arguments[0]), Path(out), settings or Settings()
    if target.suffix != ".csv":
        raise ConfigError(f"--out={out} must end in .csv")
    if target.resolve().is_relative_to(folder_of_images.resolve()):
        raise ConfigError(
            f"--out={out} is inside {folder_of_images}: give a path outside of the images' folder"
        )
    opencv()
    reporter = Reporter()
    listing = list_images(folder_of_images, max_pixels=max_pixels)
    images = listing.images
    others = f", {listing.others:,} other files skipped" if listing.others else ""
    if listing.beside:
        others += f", {listing.beside:,} images outside of class folders skipped, as in training"
    reporter.line("images", f"{len(images):,} in {len(images.classes)} classes{others}")
    work_folder = Path(work) if work else target.with_name(f".{target.stem}.work")
    with workdir.lock_workdir(work_folder, "--work" if work else "--out"):
        with reporter.phase("hash") as phase:
            folder = work_folder / _cache_key(images, settings)
            phase.text = f"work files in {folder}"
        outputs = (target, target.with_suffix(".json"), *(_montage(target, name) for name in MONTAGES))
        existing = next((path for path in outputs if path.exists()), None)
        if existing and not folder.exists():
            raise ConfigError(f"{existing} exists: give another --out, or remove it")
        folder.mkdir(exist_ok=True)
        with worker_pool(workers or os.cpu_count() or 1, _use_one_thread) as pool:
            runner = TaskRunner(reporter, pool)
            found = search(images, folder, settings, runner)
        _write(target, images, found, settings, runner)


def _montage(target: Path, name: str) -> Path:
    return target.with_name(f"{target.stem}-{name}.jpg")


class TaskRunner:
    """Runs the tasks of each stage in a process pool and measures their time."""

    def __init__(self, reporter: Reporter, pool: concurrent.futures.Executor):
        self.reporter, self.pool = reporter, pool
        self.seconds: dict[str, float] = {}
        self.processor_seconds = 0.0
        self.reused = 0

    def stage(self, name: str, work: Sequence[tasks.Task]) -> None:
        """Runs the tasks without a stored result; raises DataError for unreadable images."""
        start = time.perf_counter()
        missing = [task for task in work if not task.path.exists()]
        reused = len(work) - len(missing)
        self.reused += reused
        total = sum(task.count for task in work)
        done = total - sum(task.count for task in missing)
        unreadable: list[str] = []
        with self.reporter.phase(name) as phase:
            with self.reporter.counter(name) as progress:
                progress(done, total)
                futures = [self.pool.submit(task.run) for task in missing]
                for future in concurrent.futures.as_completed(futures):
                    result = future.result()
                    done += result.count
                    self.processor_seconds += result.seconds
                    unreadable += result.unreadable
                    progress(done, total)
            if unreadable:
                raise all_unreadable(unreadable)
            phase.text = f"{total:,}"
            if reused:
                phase.text += f", {reused} of {len(work)} tasks reused"
        self.seconds[name] = round(time.perf_counter() - start, 1)


def _use_one_thread() -> None:
    """The worker processes provide the parallelism."""
    import threadpoolctl

    opencv().setNumThreads(1)
    threadpoolctl.threadpool_limits(1)


def search(images: ImageFiles, folder: Path, settings: Settings, runner: TaskRunner) -> grouping.Found:
    """Finds copies, then overlaps among a few images per original, then verifies these with more images."""
    none, nothing = np.zeros((0, 2), np.int32), np.zeros(0, PAIR)
    paths = [images.root / file for file in images.files]
    runner.stage("describe", tasks.describe_tasks(folder, paths, images.max_pixels, settings))
    records = tasks.FeatureFiles(folder)
    _, identical = np.unique(records.field("pixels"), axis=0, return_inverse=True)

    def verify(stage: str, pairs: np.ndarray) -> np.ndarray:
        work = tasks.verify_tasks(folder, stage, pairs, settings)
        runner.stage(stage, work)
        return tasks.load_results(work, nothing)

    near = tasks.neighbour_tasks(folder, images.labels, settings)
    runner.stage("compare", near)
    tried = np.unique(tasks.load_results(near, none), axis=0)
    pairs = verify("copies", tried)
    originals = grouping.originals(pairs, identical, settings)
    few = grouping.representatives(pairs, originals, settings.representatives, settings)
    alike = tasks.word_tasks(folder, few, images.labels, settings)
    runner.stage("words", alike)
    new = grouping.exclude(tasks.load_results(alike, none), tried)
    pairs, tried = np.concatenate([pairs, verify("overlaps", new)]), np.concatenate([tried, new])
    originals = grouping.originals(pairs, identical, settings)
    more = grouping.representatives(pairs, originals, settings.overlap_members, settings)
    new = grouping.cross_pairs(more, grouping.linked_originals(pairs, originals))
    new = grouping.exclude(new, tried)
    pairs = np.concatenate([pairs, verify("certain", new)])
    originals = grouping.originals(pairs, identical, settings)
    overlaps = grouping.overlaps(pairs, originals, settings)
    groups = grouping.groups(originals, overlaps)
    counts = records.field("count")
    return grouping.Found(originals, groups, overlaps, pairs, len(tried) + len(new), counts)


def _cache_key(images: ImageFiles, settings: Settings) -> str:
    """A hash of everything that the results depend on."""
    version = opencv().__version__
    key = [ALGORITHM_VERSION, images.fingerprint, dataclasses.asdict(settings), version]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def _write(
    target: Path, images: ImageFiles, found: grouping.Found, settings: Settings, runner: TaskRunner
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    summary = _summary(images, found, settings)
    summary["run"] = {
        "seconds": runner.seconds,
        "total_seconds": round(sum(runner.seconds.values()), 1),
        "processor_seconds": round(runner.processor_seconds + time.thread_time(), 1),
        "pieces_done_before": runner.reused,
        "versions": {"opencv": opencv().__version__, "numpy": np.__version__},
        "python": platform.python_version(),
    }
    written = [target.with_suffix(".json")]
    for name, select in MONTAGES.items():
        if rows := select(images, found, settings):
            written.append(_montage(target, name))
            picture = Image.fromarray(montage.montage(rows, settings))
            with atomic_replace(written[-1]) as temporary:
                picture.save(temporary, "JPEG", quality=85)
    atomic_write(written[0], json.dumps(summary, indent=1) + "\n")
    members = {
        file: (str(original), str(group))
        for file, original, group in zip(images.files, found.originals, found.groups, strict=True)
    }
    Groups(str(target), members).write(target)
    _print(runner.reporter, summary)
    runner.reporter.line("saved", f"{target}, {', '.join(path.name for path in written)}")


def _summary(images: ImageFiles, found: grouping.Found, settings: Settings) -> dict[str, Any]:
    """The content of the .json file: counts, margins of the decisions, settings."""
    strong = found.pairs[found.pairs["inliers"] >= settings.original_inliers]
    same = grouping.is_same_original(strong, settings)
    sizes = np.bincount(found.groups)
    by_class = {
        name or ".": {
            "images": int((images.labels == label).sum()),
            "originals": len(np.unique(found.originals[images.labels == label])),
            "groups": len(np.unique(found.groups[images.labels == label])),
        }
        for label, name in enumerate(images.classes)
    }
    label_of = images.labels[np.unique(found.originals, return_index=True)[1]]
    joined = [overlap for overlap in found.overlaps if overlap.joined]
    return {
        "images": len(images),
        "originals": int(found.originals.max()) + 1,
        "groups": int(found.groups.max()) + 1,
        "images_without_near_duplicate": int((sizes == 1).sum()),
        "largest_group": int(sizes.max()),
        "classes": by_class,
        "overlaps": {
            "joined": len(joined),
            "joined_across_classes": sum(
                int(label_of[overlap.first] != label_of[overlap.second]) for overlap in joined
            ),
            "left_apart_with_evidence": len(found.overlaps) - len(joined),
            "doubtful": sum(_is_doubtful(overlap, settings) for overlap in found.overlaps),
        },
        "confidence": {
            "pairs_compared": found.compared,
            "pairs_verified": len(found.pairs),
            "largest_centre_distance_within_an_original": _extreme(strong[same], max),
            "smallest_centre_distance_between_originals": _extreme(strong[~same], min),
            "images_too_plain_to_compare": int((found.keypoints < settings.original_inliers).sum()),
        },
        "settings": dataclasses.asdict(settings),
    }


def _extreme(pairs: np.ndarray, reduce: Callable[[Any], float]) -> float | None:
    return round(float(reduce(pairs["centre"])), 2) if len(pairs) else None


def _is_doubtful(overlap: grouping.Overlap, settings: Settings) -> bool:
    """Whether an overlap, joined or not, has few inliers and should be reviewed."""
    return overlap.inliers < 2 * settings.overlap_inliers


def _largest(images: ImageFiles, found: grouping.Found, settings: Settings) -> list[montage.Row]:
    """Overlaps of the largest groups, then the strongest pair of each of the largest originals."""
    sizes = np.bincount(found.groups)
    group_of = found.groups[np.unique(found.originals, return_index=True)[1]]
    joined = [overlap for overlap in found.overlaps if overlap.joined]
    joined.sort(key=lambda overlap: (-sizes[group_of[overlap.first]], group_of[overlap.first]))
    rows = [_overlap_row(images, overlap) for overlap in joined[:MONTAGE_ROWS]]
    pairs = found.pairs[grouping.is_same_original(found.pairs, settings)]
    original = found.originals[pairs["first"]]
    order = np.lexsort((-pairs["inliers"], original, -np.bincount(found.originals)[original]))
    _, first = np.unique(original[order], return_index=True)
    chosen = pairs[order[np.sort(first)[: MONTAGE_ROWS - len(rows)]]]
    return rows + [_montage_row(images, pair, f"copies: {pair['inliers']} inliers") for pair in chosen]


def _doubtful(images: ImageFiles, found: grouping.Found, settings: Settings) -> list[montage.Row]:
    """The doubtful overlaps, weakest evidence last."""
    near = [overlap for overlap in found.overlaps if _is_doubtful(overlap, settings)]
    near.sort(key=lambda overlap: (-overlap.strong, -overlap.inliers))
    return [_overlap_row(images, overlap) for overlap in near[:MONTAGE_ROWS]]


MONTAGES = {"largest": _largest, "doubtful": _doubtful}
"""The montages by the end of their file's name."""


def _overlap_row(images: ImageFiles, overlap: grouping.Overlap) -> montage.Row:
    verdict = "joined" if overlap.joined else "not joined"
    evidence = f"{overlap.strong} strong pairs, {overlap.inliers} inliers"
    common = f"{100 * overlap.common_fraction:.0f} % common area"
    return _montage_row(images, overlap.pairs[0], f"{verdict}: {evidence}, {common}")


def _montage_row(images: ImageFiles, pair: np.void, message: str) -> montage.Row:
    names = [images.files[pair[end]] for end in ("first", "second")]
    first, second = (read_image(images.root / name, max_pixels=images.max_pixels) for name in names)
    return montage.Row(first, second, pair["matrix"], f"{names[0]} | {names[1]} | {message}")


def _print(reporter: Reporter, summary: dict[str, Any]) -> None:
    confidence, overlaps = summary["confidence"], summary["overlaps"]
    reporter.line(
        "found",
        f"{summary['originals']:,} originals in {summary['groups']:,} groups of overlapping images; "
        f"{summary['images_without_near_duplicate']:,} images have no near-duplicate",
    )
    for name, counts in summary["classes"].items():
        counted = ", ".join(f"{number:,} {what}" for what, number in counts.items())
        reporter.line("", f"{name}: {counted}")
    within = confidence["largest_centre_distance_within_an_original"]
    beyond = confidence["smallest_centre_distance_between_originals"]
    copies = "no copies" if within is None else f"centres of copies are at most {within} px apart"
    between = "no overlaps" if beyond is None else f"of overlaps at least {beyond} px"
    threshold = f"the threshold is {summary['settings']['original_centre']:g} px"
    reporter.line("margin", f"{copies}, {between}; {threshold}")
    reporter.line(
        "overlaps",
        f"{overlaps['joined']} joined ({overlaps['joined_across_classes']} across classes), "
        f"{overlaps['left_apart_with_evidence']} not joined for lack of evidence; "
        f"{overlaps['doubtful']} doubtful",
    )
    if plain := confidence["images_too_plain_to_compare"]:
        reporter.line("", f"{plain} images have too few keypoints to compare")
