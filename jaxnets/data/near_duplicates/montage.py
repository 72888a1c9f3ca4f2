"""Renders verified pairs: both images, the second warped onto the first, and a checkerboard of the two."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from jaxnets.data.near_duplicates.features import opencv, scaled
from jaxnets.data.near_duplicates.settings import Settings

_CAPTION = 16
_GAP = 4
_TILES = 8  # of the checkerboard along a side


@dataclasses.dataclass(frozen=True)
class Row:
    """Two images uint8[H, W, 3], the 2 x 3 map from the first's scaled pixels to the second's, a caption."""

    first: np.ndarray
    second: np.ndarray
    matrix: np.ndarray
    caption: str


def montage(rows: Sequence[Row], settings: Settings) -> np.ndarray:
    """uint8[H, W, 3], one row per pair: first, second, second warped onto first, checkerboard of both."""
    strips = [_strip(row, settings) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    height = sum(strip.shape[0] for strip in strips)
    sheet = np.full((height, width, 3), 255, np.uint8)
    top = 0
    for strip in strips:
        sheet[top : top + strip.shape[0], : strip.shape[1]] = strip
        top += strip.shape[0]
    return sheet


def warp(second: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The second image in the first one's frame, with `size` (width, height); grey outside the image."""
    cv2 = opencv()
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    grey = (128, 128, 128)
    return cv2.warpAffine(second, matrix, size, flags=flags, borderValue=grey)


def _strip(row: Row, settings: Settings) -> np.ndarray:
    first, second = scaled(row.first, settings), scaled(row.second, settings)
    height, width = first.shape[:2]
    overlay = warp(second, row.matrix, (width, height))
    y, x = np.mgrid[:height, :width]
    checker = (x * _TILES // width + y * _TILES // height) % 2 == 0
    covered = warp(np.full(second.shape, 255, np.uint8), row.matrix, (width, height)) == 255
    mixed = np.where(checker[..., None] | ~covered, first, overlay)
    tall = max(height, second.shape[0])
    parts = (first, second, overlay, mixed)
    strip = np.full((_CAPTION + tall + _GAP, sum(part.shape[1] + _GAP for part in parts), 3), 255, np.uint8)
    left = 0
    for part in parts:
        strip[_CAPTION : _CAPTION + part.shape[0], left : left + part.shape[1]] = part
        left += part.shape[1] + _GAP
    picture = Image.fromarray(strip)
    ImageDraw.Draw(picture).text((2, 2), row.caption, fill=(0, 0, 0))
    return np.array(picture)
