"""What a search for near-duplicates tells: counts, how sure they are, and pictures."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.app.screen import Screen
from jaxnets.data.duplicates import grouping, montage
from jaxnets.data.duplicates.settings import Settings
from jaxnets.data.folder import ImageFiles
from jaxnets.data.images import read_image

MONTAGE_ROWS = 24


def summary(images: ImageFiles, found: grouping.Found, settings: Settings) -> dict[str, Any]:
    """Counts, how clear the decisions were, and the settings: what the .json file holds."""
    strong = found.pairs[found.pairs["inliers"] >= settings.original_inliers]
    same = grouping.is_same_original(strong, settings)
    sizes = np.bincount(found.originals)
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
        "largest_group": int(np.bincount(found.groups).max()),
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


def _extreme(pairs: np.ndarray, choose: Any) -> float | None:
    return round(float(choose(pairs["centre"])), 2) if len(pairs) else None


def _is_doubtful(overlap: grouping.Overlap, settings: Settings) -> bool:
    """On thin evidence, joined or left apart: a person should look."""
    return overlap.inliers < 2 * settings.overlap_inliers


def largest(images: ImageFiles, found: grouping.Found) -> list[montage.Row]:
    """The overlaps that made the largest groups."""
    sizes = np.bincount(found.groups)
    group_of = found.groups[np.unique(found.originals, return_index=True)[1]]
    joined = [overlap for overlap in found.overlaps if overlap.joined]
    joined.sort(key=lambda overlap: (-sizes[group_of[overlap.first]], group_of[overlap.first]))
    return [_row(images, overlap) for overlap in joined[:MONTAGE_ROWS]]


def doubtful(images: ImageFiles, found: grouping.Found, settings: Settings) -> list[montage.Row]:
    """The overlaps that are nearest to the line, thinnest evidence last."""
    near = [overlap for overlap in found.overlaps if _is_doubtful(overlap, settings)]
    near.sort(key=lambda overlap: (-overlap.strong, -overlap.inliers))
    return [_row(images, overlap) for overlap in near[:MONTAGE_ROWS]]


def _row(images: ImageFiles, overlap: grouping.Overlap) -> montage.Row:
    pair = overlap.pairs[0]
    first, second = (images.files[pair[end]] for end in ("first", "second"))
    verdict = "joined" if overlap.joined else "left apart"
    return montage.Row(
        read_image(images.root / first, max_pixels=images.max_pixels),
        read_image(images.root / second, max_pixels=images.max_pixels),
        pair["matrix"],
        f"{first} | {second} | {verdict}: {overlap.strong} strong pairs, "
        f"{overlap.inliers} inliers, {100 * overlap.share:.0f} % of the area in common",
    )


def say(screen: Screen, target: Path, told: dict[str, Any]) -> None:
    """The closing lines, from a `summary`."""
    sure, overlaps = told["confidence"], told["overlaps"]
    screen.line(
        "found",
        f"{told['originals']:,} originals in {told['groups']:,} groups; "
        f"{told['images_without_a_sibling']:,} images have no likes",
    )
    for name, counts in told["classes"].items():
        screen.line(
            "",
            f"{name}: {counts['images']:,} images, {counts['originals']:,} originals, "
            f"{counts['groups']:,} groups",
        )
    screen.line("sure", _told_gap(sure))
    screen.line(
        "overlaps",
        f"{overlaps['joined']} joined ({overlaps['joined_across_classes']} across classes), "
        f"{overlaps['left_apart_with_evidence']} with thin evidence left apart; "
        f"{overlaps['doubtful']} are doubtful",
    )
    if sure["images_too_plain_to_compare"]:
        screen.line("", f"{sure['images_too_plain_to_compare']} images are too plain to compare")
    screen.line("saved", f"{target}, with {target.stem}.json and montages beside it")


def _told_gap(sure: dict[str, Any]) -> str:
    """How far copies of one original are from all else."""
    within = sure["largest_centre_distance_within_an_original"]
    beyond = sure["smallest_centre_distance_between_originals"]
    copies = "no copies" if within is None else f"centres of copies lie at most {within} px apart"
    return f"{copies}, " + (
        "no overlaps" if beyond is None else f"of overlaps at least {beyond} px"
    )
