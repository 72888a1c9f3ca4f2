"""The HTML page of a search for near-duplicates."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnets.data.images import read_image
from jaxnets.data.near_duplicates.summary import Shown, Summary
from jaxnets.data.near_duplicates.verification import align
from jaxnets.evaluation.report.html import data_uri, environment

MOST_PAIRS = 24
"""Pairs in each part of the page."""
MOST_FILES = 1000
"""Test images in the table of leakage."""


@dataclasses.dataclass(frozen=True)
class PairCard:
    """Two images: data URIs of first, second, second warped onto first, checkerboard; names; a caption."""

    pictures: Sequence[str]
    files: Sequence[str]
    caption: str


def render(summary: Summary, numbers: Mapping[str, Any], title: str) -> str:
    """Renders a self-contained HTML file from a summary and its `numbers`."""
    leaked = numbers["leakage"]["test_files"]
    parts = {
        "Test images with a near-duplicate in training": summary.leaked(MOST_PAIRS),
        "The largest groups": summary.largest(MOST_PAIRS),
        "Doubtful overlaps and copies": summary.doubtful(MOST_PAIRS),
    }
    now = datetime.datetime.now(datetime.UTC)
    return (
        environment()
        .get_template("duplicates.html")
        .render(
            title=title,
            subtitle=f"{len(summary.images):,} images, searched on {now:%Y-%m-%d at %H:%M} UTC",
            numbers=numbers,
            leakage=numbers["leakage"],
            leaked=list(leaked.items())[:MOST_FILES],
            most_pairs=MOST_PAIRS,
            parts={name: [_card(summary, pair) for pair in pairs] for name, pairs in parts.items()},
        )
    )


def _card(summary: Summary, shown: Shown) -> PairCard:
    files = [summary.images.files[shown.pair[end]] for end in ("first", "second")]
    first, second = (
        read_image(summary.images.root / file, max_pixels=summary.images.max_pixels) for file in files
    )
    pictures = align(first, second, shown.pair["matrix"], summary.settings)
    return PairCard([_picture(pixels) for pixels in pictures], files, shown.caption)


def _picture(pixels: np.ndarray) -> str:
    return data_uri(np.ascontiguousarray(pixels), "jpeg", quality=85)
