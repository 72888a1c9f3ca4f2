"""Near-duplicates among small images: candidates and verified correlation."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from jaxnets.data.near_duplicates.correlation import (
    Views,
    correlate,
    describe_small,
    draw_pairs,
    next_correlations,
    select_copies,
    small_candidates,
    views,
)
from jaxnets.data.near_duplicates.features import SMALL, Settings
from jaxnets.data.near_duplicates.verification import PAIR
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue

pytest.importorskip("cv2")

SETTINGS = Settings()
SIZE = np.array([224.0, 224.0], np.float32)


@pytest.fixture(scope="module")
def fields() -> list[np.ndarray]:
    """Returns eight synthetic images, uint8[96, 96, 3]."""
    source = SyntheticTissue(8, 96, seed=5)
    return [source[index]["image"] for index in range(8)]


def _small(field: np.ndarray, box: tuple[int, int, int, int], *, mirror: bool = False) -> np.ndarray:
    picture = Image.fromarray(field).resize((32, 32), Image.Resampling.BICUBIC, box=box)
    return np.array(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else picture)


def _views(image: np.ndarray) -> Views:
    return views(describe_small(image, SIZE))


@pytest.mark.parametrize(
    ("box", "mirror", "factor"),
    [
        ((8, 8, 88, 88), False, 1.0),
        ((8, 8, 88, 88), True, 1.0),
        ((8, 8, 88, 88), False, 0.7),
        ((12, 5, 92, 85), True, 1.0),
        ((11, 11, 85, 85), False, 1.0),
    ],
)
def test_shifted_mirrored_and_darkened_copies_are_verified(
    fields: list[np.ndarray], box: tuple[int, int, int, int], mirror: bool, factor: float
) -> None:
    first = _small(fields[0], (8, 8, 88, 88))
    second = (_small(fields[0], box, mirror=mirror) * factor).astype(np.uint8)
    record = correlate(_views(first), _views(second), SETTINGS)
    assert record["correlation"] > SETTINGS.small_correlation
    # The map leads the first image's centre to where that part of the field is in the second.
    zoom, scale = 80 / (box[2] - box[0]), 224 / 80
    expected = np.array([(48 - (box[0] + box[2]) / 2), (48 - (box[1] + box[3]) / 2)]) * zoom * scale
    centre = (SIZE - 1) / 2
    moved = record["matrix"] @ [*centre, 1] - centre
    np.testing.assert_allclose(moved, expected * (-1 if mirror else 1, 1), atol=5)


def test_different_images_are_not_verified(fields: list[np.ndarray]) -> None:
    pictures = [_views(_small(field, (8, 8, 88, 88))) for field in fields]
    for a in range(8):
        for b in range(a):
            assert correlate(pictures[a], pictures[b], SETTINGS)["correlation"] < 0.6


def test_plain_images_are_not_verified() -> None:
    plain = _views(np.full((32, 32, 3), 128, np.uint8))
    assert correlate(plain, plain, SETTINGS)["correlation"] == 0


def _pairs(rows: list[tuple[int, int, float]]) -> np.ndarray:
    pairs = np.zeros(len(rows), PAIR)
    for record, row in zip(pairs, rows, strict=True):
        record["first"], record["second"], record["correlation"] = row
    return pairs


def _copies(pairs: np.ndarray, records: np.ndarray, drawn: np.ndarray, settings: Settings) -> list:
    """The pairs of copies, where images 0 and 1 and all others are components."""
    components = np.minimum(np.arange(len(records)) // 2, 1)
    others = next_correlations(pairs, records, settings)
    found = select_copies(pairs, drawn, components, others, settings)
    return found[["first", "second"]].tolist()


def test_copies_correlate_better_than_the_next_candidates() -> None:
    """Images 0 and 1 are copies; 2 to 5 are drawings that all correlate with each other."""
    few = dataclasses.replace(SETTINGS, small_rank=2)
    rows = [(0, 1, 0.97), (0, 2, 0.4), (1, 2, 0.5), (1, 3, 0.5)]
    alike = [(a, b, 0.95) for a in range(2, 6) for b in range(a + 1, 6)]
    pairs, records = _pairs(rows + alike), np.zeros(6, SMALL)
    assert _copies(pairs, records, _pairs([]), few) == [(0, 1)]
    # They are copies of one photograph if random pairs of them correlate too.
    drawn = _pairs([(2, 4, 0.95), (3, 5, 0.95), (2, 5, 0.1)])
    assert _copies(pairs, records, drawn, few) == [(0, 1)]
    assert len(_copies(pairs, records, drawn[:2], few)) == 7


@pytest.mark.parametrize("candidates", [0, 3])
def test_drawings_have_to_correlate_more_than_photographs(candidates: int) -> None:
    """With few candidates, and with many whose maps are refused."""
    few = dataclasses.replace(SETTINGS, small_rank=2)
    records = np.zeros(6 + candidates, SMALL)
    refused = [(image, 6 + other, 0.0) for image in range(6) for other in range(candidates)]
    pairs = _pairs([(0, 1, 0.97), (2, 3, 0.97), (4, 5, 0.99), *refused])
    records["background"][2:6] = 0.8
    assert _copies(pairs, records, _pairs([]), few) == [(0, 1), (4, 5)]


def test_random_pairs_are_drawn_from_the_chosen_components() -> None:
    few = dataclasses.replace(SETTINGS, small_drawn=5)
    components = np.array([0] * 8 + [1] * 8)
    pairs = draw_pairs(components, np.arange(16) == 9, few)
    assert len(np.unique(pairs)) == 5
    assert pairs.min() >= 8
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(draw_pairs(components, np.zeros(16, bool), few)) == 0


def test_copies_are_candidates(fields: list[np.ndarray]) -> None:
    images = [_small(field, (8, 8, 88, 88)) for field in fields]
    images += [_small(field, (10, 6, 90, 86), mirror=True) for field in fields]
    records = np.array([describe_small(image, SIZE) for image in images], SMALL)
    pairs = small_candidates(records, np.zeros(16, int), np.arange(16), SETTINGS)
    assert {(n, n + 8) for n in range(8)} <= {tuple(pair) for pair in pairs.tolist()}
    assert (pairs[:, 0] < pairs[:, 1]).all()
