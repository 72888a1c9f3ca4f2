"""Near-duplicate search on synthetic images with known transformations."""

import dataclasses
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxnets.data.near_duplicates import candidates, search, task_runner, tasks
from jaxnets.data.near_duplicates.features import Settings, describe
from jaxnets.data.near_duplicates.verification import (
    PAIR,
    agreement,
    align,
    centre_distance,
    common_fraction,
    matchable,
    verify,
    warp,
)
from jaxnets.data.sources.image_folder import ImageFolder, list_images
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.errors import DataError

cv2 = pytest.importorskip("cv2")

SIZE = 160
FEW = settings(max_examples=25, deadline=None)
SETTINGS = Settings(side=SIZE)
TRANSFORMS = (
    (0.0, 1.0, 1.0, False),
    (140.0, 1.0, 1.0, False),
    (0.0, 1.0, 1.0, True),
    (-75.0, 1.3, 0.9, True),
    (20.0, 1.4, 0.95, False),
)
"""Rotation in degrees, zoom along x and y, mirrored."""


def _affine(angle: float, zoom_x: float, zoom_y: float, mirror: bool) -> np.ndarray:
    """Returns an affine map, float64[2, 3], that fixes the centre of SIZE x SIZE pixels."""
    radians = np.deg2rad(angle)
    linear = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    linear = linear @ np.diag([-zoom_x if mirror else zoom_x, zoom_y])
    centre = np.full(2, (SIZE - 1) / 2)
    return np.concatenate([linear, (centre - linear @ centre)[:, None]], 1)


def _transform(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Applies an affine map with reflected borders and compresses the image as JPEG."""
    moved = cv2.warpAffine(image, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT)
    _, data = cv2.imencode(".jpg", moved, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


@pytest.fixture(scope="module")
def fields() -> list[np.ndarray]:
    """Returns four synthetic images, uint8[240, 240, 3]."""
    source = SyntheticTissue(4, 240, seed=3)
    return [source[index]["image"] for index in range(4)]


@pytest.fixture(scope="module")
def photographs(fields: list[np.ndarray]) -> list[np.ndarray]:
    """Returns their centres, uint8[SIZE, SIZE, 3]."""
    return [np.ascontiguousarray(field[40 : 40 + SIZE, 40 : 40 + SIZE]) for field in fields]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_known_map_is_recovered(
    photographs: list[np.ndarray], transform: tuple[float, float, float, bool]
) -> None:
    matrix = _affine(*transform)
    images = (photographs[0], _transform(photographs[0], matrix))
    record = verify(*(matchable(describe(image, SETTINGS)) for image in images), SETTINGS)
    assert record is not None
    corners = np.array([(20, 20), (140, 20), (140, 140), (20, 140)])
    found = corners @ record["matrix"][:, :2].T + record["matrix"][:, 2]
    true = corners @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(found, true, atol=2.5)
    assert search.is_same_original(np.array([record]), SETTINGS).all()


def test_overlapping_crops_are_not_copies(fields: list[np.ndarray]) -> None:
    shift = 50
    left, right = (
        matchable(describe(np.ascontiguousarray(fields[0][40:200, x : x + SIZE]), SETTINGS))
        for x in (0, shift)
    )
    record = verify(left, right, SETTINGS)
    assert record is not None
    assert record["centre"] == pytest.approx(shift, abs=1)
    assert record["share"] == pytest.approx(1 - shift / SIZE, abs=0.02)
    assert not search.is_same_original(np.array([record]), SETTINGS).any()


def test_different_images_do_not_match(photographs: list[np.ndarray]) -> None:
    records = [matchable(describe(photograph, SETTINGS)) for photograph in photographs]
    for a, b in ((0, 1), (0, 2), (0, 3), (1, 2)):
        found = verify(records[a], records[b], SETTINGS)
        assert found is None or found["inliers"] < SETTINGS.original_inliers


def test_a_common_caption_does_not_make_copies(photographs: list[np.ndarray]) -> None:
    def with_caption(image: np.ndarray) -> np.ndarray:
        image = image.copy()
        image[-24:] = 255
        return cv2.putText(image, "Hospital 200 um", (4, SIZE - 7), 0, 0.5, (0, 0, 0), 1, cv2.LINE_AA)

    first, second, copy = (
        matchable(describe(with_caption(image), SETTINGS))
        for image in (photographs[0], photographs[1], _transform(photographs[0], np.eye(2, 3)))
    )
    refused = verify(first, second, dataclasses.replace(SETTINGS, agreement=-1.0))
    assert refused is not None
    assert refused["inliers"] >= SETTINGS.original_inliers
    assert refused["agreement"] < 0.4
    assert verify(first, second, SETTINGS) is None
    found = verify(first, copy, SETTINGS)
    assert found is not None
    assert found["agreement"] > 0.8


@pytest.mark.parametrize("zoom", [0.5, 1.0, 2.0])
def test_details_of_copies_agree(photographs: list[np.ndarray], zoom: float) -> None:
    matrix = _affine(30.0, zoom, zoom, mirror=True)
    images = (photographs[0], _transform(photographs[0], matrix))
    first, second = (describe(image, SETTINGS) for image in images)
    assert agreement(first, second, matrix) > 0.7
    assert agreement(second, first, cv2.invertAffineTransform(matrix)) > 0.7
    assert agreement(first, describe(photographs[1], SETTINGS), matrix) < 0.3


def test_plain_image_has_no_matches(photographs: list[np.ndarray]) -> None:
    plain = describe(np.full((SIZE, SIZE, 3), 200, np.uint8), SETTINGS)
    assert plain["count"] == 0
    assert verify(matchable(plain), matchable(describe(photographs[0], SETTINGS)), SETTINGS) is None


def test_transformed_copies_are_nearest(photographs: list[np.ndarray]) -> None:
    images = [_transform(photo, _affine(*transform)) for photo in photographs for transform in TRANSFORMS[1:]]
    spectra = np.array([describe(image, SETTINGS)["spectrum"] for image in images])
    few = dataclasses.replace(SETTINGS, neighbours=3, neighbours_across=0)
    pairs = candidates.candidate_copies(spectra, [spectra], np.zeros(16, int), np.arange(16), few)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    original = np.arange(16) // 4
    found = {tuple(pair) for pair in pairs[original[pairs[:, 0]] == original[pairs[:, 1]]].tolist()}
    linked = search.connected(np.array(sorted(found)), 16)
    np.testing.assert_array_equal(linked, original)


def test_candidates_across_classes_are_optional() -> None:
    spectra = np.random.default_rng(0).random((6, 12, 4)).astype(np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1])
    for across in (0, 1):
        chosen = dataclasses.replace(SETTINGS, neighbours=2, neighbours_across=across)
        pairs = candidates.candidate_copies(spectra, [spectra], labels, np.arange(6), chosen)
        crossing = labels[pairs[:, 0]] != labels[pairs[:, 1]]
        assert (~crossing).sum() == 6
        assert crossing.any() == bool(across)


def test_candidates_do_not_depend_on_the_parts_and_need_little_memory() -> None:
    spectra = np.random.default_rng(0).random((4_000, 40, 16)).astype(np.float32)
    labels, rows = np.arange(4_000) % 3, np.arange(500, 520)
    whole = candidates.candidate_copies(spectra[rows], [spectra], labels, rows, SETTINGS)
    tracemalloc.start()
    parts = np.split(spectra, range(300, 4_000, 300))
    found = candidates.candidate_copies(spectra[rows], parts, labels, rows, SETTINGS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, whole)
    assert peak < spectra.nbytes / 2


@FEW
@given(
    angle=st.floats(-180, 180),
    zoom=st.floats(0.6, 1.6),
    shift=st.tuples(st.floats(-40, 40), st.floats(-40, 40)),
)
def test_distance_and_common_fraction_are_symmetric(
    angle: float, zoom: float, shift: tuple[float, float]
) -> None:
    matrix = _affine(angle, zoom, 1, False)
    matrix[:, 2] += shift
    inverse = np.linalg.inv(np.concatenate([matrix, [[0, 0, 1]]]))[:2]
    size = np.full(2, SIZE, np.float32)
    for measure in (centre_distance, common_fraction):
        forward, backward = measure(matrix, size, size), measure(inverse, size, size)
        assert forward == pytest.approx(backward, rel=1e-3, abs=1e-3)
    assert 0 <= common_fraction(matrix, size, size) <= 1
    assert centre_distance(matrix, size, size) >= np.hypot(*shift) - 1e-9


def _pairs(*rows: tuple[int, int, int, float]) -> np.ndarray:
    """Returns records of (first, second, inliers, centre)."""
    found = np.zeros(len(rows), PAIR)
    for record, row in zip(found, rows, strict=True):
        record["first"], record["second"], record["inliers"], record["centre"] = row
    return found


def test_originals_are_copies_of_copies_and_equal_pixels() -> None:
    pairs = _pairs((0, 1, 40, 1.0), (1, 3, 12, 4.9), (3, 4, 11, 0.0), (4, 5, 90, 30.0))
    identical = np.array([0, 1, 2, 3, 4, 5, 2])
    labels = search.find_originals(pairs, identical, SETTINGS)
    np.testing.assert_array_equal(labels, [0, 0, 1, 0, 2, 3, 1])


def test_overlap_needs_several_strong_pairs_if_possible() -> None:
    labels = np.array([0, 0, 1, 1, 2, 3])
    pairs = _pairs((0, 2, 30, 40.0), (1, 3, 14, 41.0), (0, 4, 30, 50.0), (4, 5, 30, 50.0))
    found = search.find_overlaps(pairs, labels, SETTINGS)
    joined = {(overlap.first, overlap.second): overlap.joined for overlap in found}
    assert joined == {(0, 1): True, (0, 2): False, (2, 3): True}  # 2 and 3 have one image each
    np.testing.assert_array_equal(search.join_overlaps(labels, found), [0, 0, 0, 0, 1, 1])
    crossed = search.cross_pairs([np.array([0]), np.array([2, 3]), np.array([4]), np.array([5])], found)
    assert crossed.tolist() == [[0, 2], [0, 3], [0, 4], [4, 5]]


def test_visual_words_find_partial_overlaps(fields: list[np.ndarray]) -> None:
    crops = [
        np.ascontiguousarray(field[40:200, left : left + SIZE][:, ::flip])
        for field in fields
        for left, flip in ((0, 1), (70, -1))
    ]
    records = np.array([describe(crop, SETTINGS) for crop in crops])
    descriptors = np.concatenate([record["descriptors"][: record["count"]] for record in records])
    vocabulary = candidates.make_vocabulary(descriptors, 256)
    words = candidates.visual_words(records, vocabulary, SETTINGS)
    few = dataclasses.replace(SETTINGS, overlap_neighbours=4, overlap_least=4, overlap_verified=1)
    beside = {(0, 1), (2, 3), (4, 5), (6, 7)}

    def found(owners: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return candidates.WordIndex.build(words, owners, labels, 256).candidates(np.arange(8), few)

    pairs = found(np.arange(8), np.zeros(8, int))
    assert len(pairs) == 8
    assert {tuple(sorted(pair)) for pair in pairs.tolist()} == beside
    assert len(found(np.zeros(8, int), np.zeros(8, int))) == 0
    # Neighbours of other classes are counted separately, so they do not displace those of the same class.
    few = dataclasses.replace(few, overlap_verified=4)
    labels = np.arange(8) % 2
    crossing = found(np.arange(8), labels)
    assert beside <= {tuple(sorted(pair)) for pair in crossing.tolist()}
    assert (labels[crossing[:, 0]] == labels[crossing[:, 1]]).sum() == 8 * 3


def test_votes_agree_on_the_map_of_an_overlap(fields: list[np.ndarray]) -> None:
    """A pair of overlapping crops gets more votes than the same words in shuffled places."""
    crops = [np.ascontiguousarray(fields[0][40:200, left : left + SIZE]) for left in (0, 60)]
    records = np.array([describe(crop, SETTINGS) for crop in crops])
    descriptors = np.concatenate([record["descriptors"][: record["count"]] for record in records])
    words = candidates.visual_words(records, candidates.make_vocabulary(descriptors, 128), SETTINGS)
    words = np.concatenate([words, words[1:], words[:1]])  # the third one becomes shuffled
    count = records[1]["count"]
    words["places"][2, :count] = np.random.default_rng(0).permutation(words["places"][2, :count])
    index = candidates.WordIndex.build(words, np.arange(4), np.zeros(4, int), 128)
    index = dataclasses.replace(index, rarity=np.ones(128, np.float32))
    right, shuffled = index.votes(0, np.array([1, 2]))
    assert right > 2 * shuffled


def test_neighbours_per_image_decrease_with_the_number_of_images() -> None:
    assert candidates.neighbours(500, SETTINGS) == (300, 150)
    assert candidates.neighbours(10_000, SETTINGS) == (30, 15)
    assert candidates.neighbours(10**6, SETTINGS) == (10, 5)


@FEW
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=15))
def test_connected_is_the_smallest_equivalence_relation(links: list[tuple[int, int]]) -> None:
    labels = search.connected(np.array(links, int).reshape(-1, 2), 12)
    assert all(labels[a] == labels[b] for a, b in links)
    assert len(set(labels.tolist())) >= 12 - len(links)
    seen = list(dict.fromkeys(labels.tolist()))
    assert seen == list(range(len(seen)))  # numbered in order of appearance


@FEW
@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20), st.data())
def test_exclude_drops_tested_pairs(wanted: set[tuple[int, int]], data: st.DataObject) -> None:
    done = data.draw(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20))
    as_array = lambda pairs: np.array(sorted(pairs), np.int32).reshape(-1, 2)  # noqa: E731
    remaining = search.exclude(as_array(wanted), as_array(done))
    assert {tuple(pair) for pair in remaining.tolist()} == wanted - done


def test_unreadable_images_are_reported_and_not_saved(photographs: list[np.ndarray], tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.jpg"
    Image.fromarray(photographs[0]).save(good)
    bad.write_text("no image")
    path, options = tmp_path / "describe-00000.npy", (10**6, SETTINGS)
    _, (message,) = task_runner.run_task(tasks.describe_images, path, [good, bad], *options)
    assert "bad.jpg" in message
    assert not path.exists()
    _, unreadable = task_runner.run_task(tasks.describe_images, path, [good, good], *options)
    assert not unreadable
    records = tasks.FeatureFiles(tmp_path)
    expected = describe(photographs[0], SETTINGS)
    for name in ("descriptors", "places", "spectrum", "pixels"):
        count = expected["count"] if name in ("descriptors", "places") else None
        np.testing.assert_array_equal(records[0][name], expected[name][:count])
    assert records.field("count").tolist() == [records[0]["count"]] * 2


def test_warp_aligns_the_second_image_with_the_first(photographs: list[np.ndarray]) -> None:
    matrix = _affine(30, 1.0, 1.0, True)
    second = _transform(photographs[0], matrix)
    warped = warp(second, matrix, (SIZE, SIZE))
    middle = slice(50, 110)
    difference = np.abs(warped[middle, middle].astype(int) - photographs[0][middle, middle])
    assert difference.mean() < 8
    _, _, shown, checker = align(photographs[0], second, matrix, SETTINGS)
    np.testing.assert_array_equal(shown, warped)
    assert (checker == np.where((checker == warped), warped, photographs[0])).all()
    assert 0.4 < (checker == photographs[0]).all(-1).mean() < 0.8


def test_folders_with_and_without_classes(photographs: list[np.ndarray], tmp_path: Path) -> None:
    names = ("b/2.png", "b/10.png", "a/deep/1.png", "loose.png", "notes.txt", ".hidden.png")
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photographs[0][:8, :8]).save(path, "PNG")
    (tmp_path / "empty").mkdir()
    listing = list_images([tmp_path])
    images = listing.images
    assert images.files == ("a/deep/1.png", "b/2.png", "b/10.png")
    assert [images.classes[label] for label in images.labels] == ["a", "b", "b"]
    assert (listing.others, listing.beside) == (1, 1)
    (tmp_path / "empty").rmdir()
    linked = tmp_path / "linked"  # the same classes, as links to folders
    linked.mkdir()
    for name in ("a", "b"):
        (linked / name).symlink_to(tmp_path / name)
    assert list_images([linked]).images.files == images.files == ImageFolder(linked).files
    (tmp_path / "a" / "deep" / "1.png").unlink()
    (linked / "a").unlink()
    (linked / "loose.png").write_bytes((tmp_path / "loose.png").read_bytes())
    single = list_images([linked])  # with a single folder, images next to it count too
    assert single.images.files == ("b/2.png", "b/10.png", "loose.png")
    assert [single.images.classes[label] for label in single.images.labels] == ["b", "b", ""]
    assert single.beside == 0
    for folder, message in ((tmp_path / "nowhere", "does not exist"), (tmp_path / "a", "0 images")):
        with pytest.raises(DataError, match=message):
            list_images([folder])
