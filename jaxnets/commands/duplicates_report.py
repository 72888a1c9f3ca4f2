"""What a search for near-duplicates tells: counts, how sure they are, and pictures."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.images import read_image
from jaxnets.data.near_duplicates import grouping, montage
from jaxnets.data.near_duplicates.settings import Settings
from jaxnets.data.sources.image_folder import ImageFiles
from jaxnets.runtime.console import Reporter

MONTAGE_ROWS = 24


def summary(images: ImageFiles, found: grouping.Found, settings: Settings) -> dict[str, Any]:
    """Counts, how clear the decisions were, and the settings: what the .json file holds."""
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
        "images_without_a_sibling": int((sizes == 1).sum()),
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


def _extreme(pairs: np.ndarray, apply_variant: Any) -> float | None:
    return round(float(apply_variant(pairs["centre"])), 2) if len(pairs) else None


def _is_doubtful(overlap: grouping.Overlap, settings: Settings) -> bool:
    """On thin evidence, joined or left apart: a person should look."""
    return overlap.inliers < 2 * settings.overlap_inliers


def largest(images: ImageFiles, found: grouping.Found, settings: Settings) -> list[montage.Row]:
    """The overlaps that made the largest groups, then copies of the largest originals."""
    sizes = np.bincount(found.groups)
    group_of = found.groups[np.unique(found.originals, return_index=True)[1]]
    joined = [overlap for overlap in found.overlaps if overlap.joined]
    joined.sort(key=lambda overlap: (-sizes[group_of[overlap.first]], group_of[overlap.first]))
    rows = [_row(images, overlap) for overlap in joined[:MONTAGE_ROWS]]
    return rows + _copies(images, found, settings, MONTAGE_ROWS - len(rows))


def _copies(
    images: ImageFiles, found: grouping.Found, settings: Settings, most: int
) -> list[montage.Row]:
    """The strongest pair of each of the `most` largest originals."""
    pairs = found.pairs[grouping.is_same_original(found.pairs, settings)]
    sizes = np.bincount(found.originals)
    of = found.originals[pairs["first"]]
    order = np.lexsort((-pairs["inliers"], of, -sizes[of]))
    _, first = np.unique(of[order], return_index=True)
    chosen = pairs[order[np.sort(first)[:most]]]
    return [_pictured(images, pair, f"copies: {pair['inliers']} inliers") for pair in chosen]


def doubtful(images: ImageFiles, found: grouping.Found, settings: Settings) -> list[montage.Row]:
    """The overlaps that are nearest to the line, thinnest evidence last."""
    near = [overlap for overlap in found.overlaps if _is_doubtful(overlap, settings)]
    near.sort(key=lambda overlap: (-overlap.strong, -overlap.inliers))
    return [_row(images, overlap) for overlap in near[:MONTAGE_ROWS]]


def _row(images: ImageFiles, overlap: grouping.Overlap) -> montage.Row:
    verdict = "joined" if overlap.joined else "left apart"
    return _pictured(
        images,
        overlap.pairs[0],
        f"{verdict}: {overlap.strong} strong pairs, {overlap.inliers} inliers, "
        f"{100 * overlap.common_fraction:.0f} % of the area in common",
    )


def _pictured(images: ImageFiles, pair: np.void, message: str) -> montage.Row:
    first, second = (images.files[pair[end]] for end in ("first", "second"))
    return montage.Row(
        read_image(images.root / first, max_pixels=images.max_pixels),
        read_image(images.root / second, max_pixels=images.max_pixels),
        pair["matrix"],
        f"{first} | {second} | {message}",
    )


def print_report(
    reporter: Reporter, target: Path, message: dict[str, Any], montages: Sequence[Path]
) -> None:
    """The closing lines, from a `summary` and the pictures that were written."""
    sure, overlaps = message["confidence"], message["overlaps"]
    reporter.line(
        "found",
        f"{message['originals']:,} originals in {message['groups']:,} groups of overlapping images; "
        f"{message['images_without_a_sibling']:,} images have no near-duplicate",
    )
    for name, counts in message["classes"].items():
        reporter.line(
            "",
            f"{name}: {counts['images']:,} images, {counts['originals']:,} originals, "
            f"{counts['groups']:,} groups",
        )
    reporter.line("sure", _format_gap(sure, message["settings"]["original_centre"]))
    reporter.line(
        "overlaps",
        f"{overlaps['joined']} joined ({overlaps['joined_across_classes']} across classes), "
        f"{overlaps['left_apart_with_evidence']} with thin evidence left apart; "
        f"{overlaps['doubtful']} are doubtful",
    )
    if sure["images_too_plain_to_compare"]:
        reporter.line("", f"{sure['images_too_plain_to_compare']} images are too plain to compare")
    beside = [f"{target.stem}.json", *(path.name for path in montages)]
    reporter.line("saved", f"{target}, with {', '.join(beside)} beside it")


def _format_gap(sure: dict[str, Any], line: float) -> str:
    """How far copies of one original are from all else, and where the line between them is drawn."""
    within = sure["largest_centre_distance_within_an_original"]
    beyond = sure["smallest_centre_distance_between_originals"]
    copies = "no copies" if within is None else f"centres of copies lie at most {within} px apart"
    overlaps = "no overlaps" if beyond is None else f"of overlaps at least {beyond} px"
    return f"{copies}, {overlaps}; the line between them is at {line:g} px"
