"""The report of a near-duplicate search: counts, margins and montages."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.images import read_image
from jaxnets.data.near_duplicates import grouping
from jaxnets.data.near_duplicates.features import Settings
from jaxnets.data.near_duplicates.verification import Row
from jaxnets.data.sources.image_folder import ImageFiles
from jaxnets.runtime.console import Reporter

MONTAGE_ROWS = 24


def summary(images: ImageFiles, found: grouping.Found, settings: Settings) -> dict[str, Any]:
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


def largest(images: ImageFiles, found: grouping.Found, settings: Settings) -> list[Row]:
    """Montage rows: overlaps of the largest groups, then copies of the largest originals."""
    sizes = np.bincount(found.groups)
    group_of = found.groups[np.unique(found.originals, return_index=True)[1]]
    joined = [overlap for overlap in found.overlaps if overlap.joined]
    joined.sort(key=lambda overlap: (-sizes[group_of[overlap.first]], group_of[overlap.first]))
    rows = [_overlap_row(images, overlap) for overlap in joined[:MONTAGE_ROWS]]
    return rows + _copies(images, found, settings, MONTAGE_ROWS - len(rows))


def _copies(images: ImageFiles, found: grouping.Found, settings: Settings, count: int) -> list[Row]:
    """The strongest pair of each of the `count` largest originals."""
    pairs = found.pairs[grouping.is_same_original(found.pairs, settings)]
    sizes = np.bincount(found.originals)
    original = found.originals[pairs["first"]]
    order = np.lexsort((-pairs["inliers"], original, -sizes[original]))
    _, first = np.unique(original[order], return_index=True)
    chosen = pairs[order[np.sort(first)[:count]]]
    return [_montage_row(images, pair, f"copies: {pair['inliers']} inliers") for pair in chosen]


def doubtful(images: ImageFiles, found: grouping.Found, settings: Settings) -> list[Row]:
    """Montage rows: the doubtful overlaps, weakest evidence last."""
    near = [overlap for overlap in found.overlaps if _is_doubtful(overlap, settings)]
    near.sort(key=lambda overlap: (-overlap.strong, -overlap.inliers))
    return [_overlap_row(images, overlap) for overlap in near[:MONTAGE_ROWS]]


def _overlap_row(images: ImageFiles, overlap: grouping.Overlap) -> Row:
    verdict = "joined" if overlap.joined else "not joined"
    return _montage_row(
        images,
        overlap.pairs[0],
        f"{verdict}: {overlap.strong} strong pairs, {overlap.inliers} inliers, "
        f"{100 * overlap.common_fraction:.0f} % common area",
    )


def _montage_row(images: ImageFiles, pair: np.void, message: str) -> Row:
    names = [images.files[pair[end]] for end in ("first", "second")]
    first, second = (read_image(images.root / name, max_pixels=images.max_pixels) for name in names)
    return Row(first, second, pair["matrix"], f"{names[0]} | {names[1]} | {message}")


def print_report(reporter: Reporter, target: Path, content: dict[str, Any], montages: Sequence[Path]) -> None:
    """Prints the content of a `summary` and the files that were written."""
    confidence, overlaps = content["confidence"], content["overlaps"]
    reporter.line(
        "found",
        f"{content['originals']:,} originals in {content['groups']:,} groups of overlapping images; "
        f"{content['images_without_near_duplicate']:,} images have no near-duplicate",
    )
    for name, counts in content["classes"].items():
        reporter.line(
            "",
            f"{name}: {counts['images']:,} images, {counts['originals']:,} originals, "
            f"{counts['groups']:,} groups",
        )
    reporter.line("margin", _format_margin(confidence, content["settings"]["original_centre"]))
    reporter.line(
        "overlaps",
        f"{overlaps['joined']} joined ({overlaps['joined_across_classes']} across classes), "
        f"{overlaps['left_apart_with_evidence']} not joined for lack of evidence; "
        f"{overlaps['doubtful']} doubtful",
    )
    if plain := confidence["images_too_plain_to_compare"]:
        reporter.line("", f"{plain} images have too few keypoints to compare")
    others = [f"{target.stem}.json", *(path.name for path in montages)]
    reporter.line("saved", f"{target}, {', '.join(others)}")


def _format_margin(confidence: dict[str, Any], threshold: float) -> str:
    """Centre distances of copies and of overlaps, and the threshold that separates them."""
    within = confidence["largest_centre_distance_within_an_original"]
    beyond = confidence["smallest_centre_distance_between_originals"]
    copies = "no copies" if within is None else f"centres of copies are at most {within} px apart"
    overlaps = "no overlaps" if beyond is None else f"of overlaps at least {beyond} px"
    return f"{copies}, {overlaps}; the threshold is {threshold:g} px"
