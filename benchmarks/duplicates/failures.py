"""A picture of our search's errors: copies that it misses, and images that it joins wrongly."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.duplicates.image_sets import ImageSet
from benchmarks.duplicates.scored_pairs import list_images
from jaxnets.io import atomic_replace

SIDE, CAPTION, GAP, COLUMNS, MOST = 112, 28, 8, 4, 8
LINE = 2  # between the images of a pair
QUALITY = 80


def errors(groups: np.ndarray, truth: np.ndarray) -> dict[str, list[tuple[int, int]]]:
    """Returns pairs of copies that are divided, and pairs that are joined although the truth separates them.

    There is at most one pair per true group that is divided, and one per found group that is wrong.
    """
    return {"divided": _one_each(truth, groups), "joined": _one_each(groups, truth)}


def _one_each(joined: np.ndarray, divided: np.ndarray) -> list[tuple[int, int]]:
    """Returns a pair from each group of `joined` whose images are in several groups of `divided`."""
    found = []
    for group in np.unique(joined):
        members = np.flatnonzero(joined == group)
        labels, counts = np.unique(divided[members], return_counts=True)
        if len(labels) > 1:
            most, least = labels[counts.argmax()], labels[counts.argmin()]
            if most == least:
                most, least = labels[:2]
            ends = (members[divided[members] == label][0] for label in (most, least))
            first, second = sorted(map(int, ends))
            found.append((first, second))
    return found


def draw(path: Path, rows: Sequence[tuple[str, ImageSet, Sequence[tuple[int, int]]]]) -> dict[str, int]:
    """Draws up to `MOST` pairs of each row that has any, and returns the number of errors of all rows.

    Args:
      path: The JPEG file.
      rows: Caption, set and pairs.
    """
    width = COLUMNS * (2 * SIDE + LINE + GAP)
    seen = [row for row in rows if row[2]]
    strips = [
        _strip(f"{caption}: {len(pairs)}", image_set, pairs[:MOST], width)
        for caption, image_set, pairs in seen
    ]
    blank = np.full((CAPTION, width, 3), 255, np.uint8)
    picture = Image.fromarray(np.concatenate([*strips, blank]))
    with atomic_replace(path) as temporary:
        picture.save(temporary, "JPEG", quality=QUALITY)
    return {caption: len(pairs) for caption, _, pairs in rows}


def _strip(caption: str, image_set: ImageSet, pairs: Sequence[tuple[int, int]], width: int) -> np.ndarray:
    images = list_images(image_set.images)
    lines = -(-len(pairs) // COLUMNS)
    sheet = Image.new("RGB", (width, CAPTION + lines * (SIDE + GAP)), "white")
    ImageDraw.Draw(sheet).text((2, 8), caption, fill="black")
    for place, pair in enumerate(pairs):
        line, column = divmod(place, COLUMNS)
        for end, number in enumerate(pair):
            image = Image.open(images[number]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            sheet.paste(
                image, (column * (2 * SIDE + LINE + GAP) + end * (SIDE + LINE), CAPTION + line * (SIDE + GAP))
            )
    return np.asarray(sheet)
