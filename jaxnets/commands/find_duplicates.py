"""Find near-duplicates in a folder of images: copies of a photograph, and overlapping photographs."""

import dataclasses
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
from jaxnets.data.images import MAX_PIXELS, read_image
from jaxnets.data.near_duplicates import search
from jaxnets.data.near_duplicates.features import Settings, opencv
from jaxnets.data.near_duplicates.verification import Row, montage
from jaxnets.data.sources.image_folder import ImageFiles, list_images
from jaxnets.errors import ConfigError
from jaxnets.experiment import workdir
from jaxnets.io import atomic_replace, atomic_write
from jaxnets.runtime import console
from jaxnets.runtime.processes import worker_pool

MONTAGE_ROWS = 24
MONTAGES = ("largest", "doubtful")
"""The montages by the end of their file's name."""


def find_duplicates(
    arguments: Sequence[str],
    *,
    out: str,
    work_dir: str | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    settings: Settings | None = None,
) -> None:
    """Writes `out` (file,original,group), a .json with statistics and two .jpg montages.

    A search that was killed resumes from the finished tasks in `work_dir`. Raises ConfigError for wrong
    arguments or if OpenCV is missing, DataError for unreadable images, MachineError if `work_dir` is locked
    or read-only.
    """
    if len(arguments) != 1:
        raise ConfigError("give one folder of images: find_duplicates.py DIR")
    root, target, settings = Path(arguments[0]), Path(out), settings or Settings()
    if target.suffix != ".csv":
        raise ConfigError(f"--out={out} must end in .csv")
    if target.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"--out={out} is inside {root}: give a path outside of the images' folder")
    opencv()
    listing = list_images([root], max_pixels=max_pixels)
    images = listing.images
    others = f", {listing.others:,} other files skipped" if listing.others else ""
    if listing.beside:
        others += f", {listing.beside:,} images outside of class folders skipped, as in training"
    console.log("images", f"{len(images):,} in {len(images.classes)} classes{others}")
    work_folder = Path(work_dir) if work_dir else target.with_name(f".{target.stem}.work")
    with workdir.lock_workdir(work_folder, "--workdir" if work_dir else "--out"):
        with console.phase("hash") as phase:
            folder = work_folder / search.cache_key(images, settings)
            phase.text = f"work files in {folder}"
        outputs = (target, target.with_suffix(".json"), *(_montage(target, name) for name in MONTAGES))
        existing = next((path for path in outputs if path.exists()), None)
        if existing and not folder.exists():
            raise ConfigError(f"{existing} exists: give another --out, or remove it")
        folder.mkdir(exist_ok=True)
        with worker_pool(workers or os.cpu_count() or 1, search.use_one_thread) as pool:
            runner = search.TaskRunner(pool, folder)
            found = search.search(images, settings, runner)
        _write(target, Evidence(images, found, settings), runner)


def _montage(target: Path, name: str) -> Path:
    return target.with_name(f"{target.stem}-{name}.jpg")


def _write(target: Path, evidence: "Evidence", runner: search.TaskRunner) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    summary, found = evidence.summary(), evidence.found
    summary["run"] = {
        "seconds": runner.seconds,
        "total_seconds": round(sum(runner.seconds.values()), 1),
        "processor_seconds": round(runner.processor_seconds + time.thread_time(), 1),
        "pieces_done_before": runner.reused,
        "versions": {"opencv": opencv().__version__, "numpy": np.__version__},
        "python": platform.python_version(),
    }
    written = [target.with_suffix(".json")]
    for name, rows in zip(MONTAGES, (evidence.largest(), evidence.doubtful()), strict=True):
        if rows:
            written.append(_montage(target, name))
            picture = Image.fromarray(montage(rows, evidence.settings))
            with atomic_replace(written[-1]) as temporary:
                picture.save(temporary, "JPEG", quality=85)
    atomic_write(written[0], json.dumps(summary, indent=1) + "\n")
    labels = zip(map(str, found.originals), map(str, found.groups), strict=True)
    Groups(str(target), dict(zip(evidence.images.files, labels, strict=True))).write(target)
    _print(summary)
    console.log("saved", f"{target}, {', '.join(path.name for path in written)}")


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What was found in the images: its counts, and pairs to look at."""

    images: ImageFiles
    found: search.Duplicates
    settings: Settings

    def summary(self) -> dict[str, Any]:
        """The content of the .json file: counts, margins of the decisions, settings."""
        images, found, settings = self.images, self.found, self.settings
        strong = found.pairs[found.pairs["inliers"] >= settings.original_inliers]
        same = search.is_same_original(strong, settings)
        sizes = np.bincount(found.groups)
        of_class = {name or ".": images.labels == label for label, name in enumerate(images.classes)}
        label_of = images.labels[np.unique(found.originals, return_index=True)[1]]
        joined = [overlap for overlap in found.overlaps if overlap.joined]
        across = [overlap for overlap in joined if label_of[overlap.first] != label_of[overlap.second]]
        return {
            "images": len(images),
            "originals": int(found.originals.max()) + 1,
            "groups": int(found.groups.max()) + 1,
            "images_without_near_duplicate": int((sizes == 1).sum()),
            "largest_group": int(sizes.max()),
            "classes": {
                name: {
                    "images": int(members.sum()),
                    "originals": len(np.unique(found.originals[members])),
                    "groups": len(np.unique(found.groups[members])),
                }
                for name, members in of_class.items()
            },
            "overlaps": {
                "joined": len(joined),
                "joined_across_classes": len(across),
                "left_apart_with_evidence": len(found.overlaps) - len(joined),
                "doubtful": sum(map(self.is_doubtful, found.overlaps)),
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

    def is_doubtful(self, overlap: search.Overlap) -> bool:
        """Whether an overlap, joined or not, has few inliers and should be reviewed."""
        return overlap.inliers < 2 * self.settings.overlap_inliers

    def largest(self) -> list[Row]:
        """Overlaps of the largest groups, then the strongest pair of each of the largest originals."""
        found = self.found
        sizes = np.bincount(found.groups)
        group_of = found.groups[np.unique(found.originals, return_index=True)[1]]
        joined = [overlap for overlap in found.overlaps if overlap.joined]
        joined.sort(key=lambda overlap: (-sizes[group_of[overlap.first]], group_of[overlap.first]))
        rows = [self._overlap_row(overlap) for overlap in joined[:MONTAGE_ROWS]]
        pairs = found.pairs[search.is_same_original(found.pairs, self.settings)]
        original = found.originals[pairs["first"]]
        order = np.lexsort((-pairs["inliers"], original, -np.bincount(found.originals)[original]))
        _, first = np.unique(original[order], return_index=True)
        chosen = pairs[order[np.sort(first)[: MONTAGE_ROWS - len(rows)]]]
        return rows + [self._row(pair, f"copies: {pair['inliers']} inliers") for pair in chosen]

    def doubtful(self) -> list[Row]:
        """The doubtful overlaps, weakest evidence last."""
        near = [overlap for overlap in self.found.overlaps if self.is_doubtful(overlap)]
        near.sort(key=lambda overlap: (-overlap.strong, -overlap.inliers))
        return [self._overlap_row(overlap) for overlap in near[:MONTAGE_ROWS]]

    def _overlap_row(self, overlap: search.Overlap) -> Row:
        verdict = "joined" if overlap.joined else "not joined"
        evidence = f"{overlap.strong} strong pairs, {overlap.inliers} inliers"
        common = f"{100 * overlap.common_fraction:.0f} % common area"
        return self._row(overlap.pairs[0], f"{verdict}: {evidence}, {common}")

    def _row(self, pair: np.void, message: str) -> Row:
        root, max_pixels = self.images.root, self.images.max_pixels
        names = [self.images.files[pair[end]] for end in ("first", "second")]
        first, second = (read_image(root / name, max_pixels=max_pixels) for name in names)
        return Row(first, second, pair["matrix"], f"{names[0]} | {names[1]} | {message}")


def _extreme(pairs: np.ndarray, reduce: Callable[[Any], float]) -> float | None:
    return round(float(reduce(pairs["centre"])), 2) if len(pairs) else None


def _print(summary: dict[str, Any]) -> None:
    confidence, overlaps = summary["confidence"], summary["overlaps"]
    console.log(
        "found",
        f"{summary['originals']:,} originals in {summary['groups']:,} groups of overlapping images; "
        f"{summary['images_without_near_duplicate']:,} images have no near-duplicate",
    )
    for name, counts in summary["classes"].items():
        console.log("", f"{name}: {', '.join(f'{number:,} {what}' for what, number in counts.items())}")
    within = confidence["largest_centre_distance_within_an_original"]
    beyond = confidence["smallest_centre_distance_between_originals"]
    copies = "no copies" if within is None else f"centres of copies are at most {within} px apart"
    between = "no overlaps" if beyond is None else f"of overlaps at least {beyond} px"
    threshold = f"the threshold is {summary['settings']['original_centre']:g} px"
    console.log("margin", f"{copies}, {between}; {threshold}")
    console.log(
        "overlaps",
        f"{overlaps['joined']} joined ({overlaps['joined_across_classes']} across classes), "
        f"{overlaps['left_apart_with_evidence']} not joined for lack of evidence; "
        f"{overlaps['doubtful']} doubtful",
    )
    if plain := confidence["images_too_plain_to_compare"]:
        console.log("", f"{plain} images have too few keypoints to compare")
