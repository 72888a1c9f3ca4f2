"""Sets of images: augmentations, and sets of LC25000's photographs."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.duplicates import image_sets, leakage
from benchmarks.duplicates.augment import HARDER, PUBLISHED, Augmentation, through_jpeg
from benchmarks.duplicates.image_sets import COPIES_TRUTH, HUMAN, Lung
from benchmarks.duplicates.scored_pairs import list_images
from jaxnets.errors import ConfigError, DataError

SIZE = 48


@pytest.fixture
def gradient() -> Image.Image:
    """Red grows to the right and green downwards, so a colour is a place."""
    ramp = np.linspace(0, 255, SIZE).astype(np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    return Image.fromarray(np.stack([red, green, np.full_like(red, 128)], -1))


@pytest.fixture
def lung(tmp_path: Path) -> Lung:
    """Three classes of four images, of which the first two are copies in our groups or the human clusters."""
    files = []
    for label, name in enumerate(("lung_aca", "lung_n", "lung_scc")):
        (tmp_path / "lung" / name).mkdir(parents=True)
        for index in range(4):
            file = f"{name}/{index}.png"
            noise = np.random.default_rng(10 * label + index).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "lung" / file)
            files.append(file)
    groups = np.array([0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    human = np.array([0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10])
    return Lung(tmp_path / "lung", files, groups.copy(), groups, human)


@pytest.mark.parametrize("augmentation", [PUBLISHED, HARDER])
def test_copies_contain_only_pixels_of_the_photograph(augmentation: Augmentation) -> None:
    white = Image.new("RGB", (SIZE, SIZE), "white")
    plain = Augmentation(augmentation.degrees, augmentation.smallest_crop, augmentation.stretch)
    for seed in range(30):
        copy = np.asarray(plain(white, np.random.default_rng(seed)))
        assert copy.min() >= 250


def test_the_published_augmentation_is_centred(gradient: Image.Image) -> None:
    for seed in range(10):
        copy = np.asarray(PUBLISHED(gradient, np.random.default_rng(seed)), np.float64)
        assert (
            np.abs(copy[SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1, :2].mean() - 127.5) < 6
        )


def test_equal_seeds_give_equal_copies_and_others_do_not(gradient: Image.Image) -> None:
    first, again, other = (np.asarray(HARDER(gradient, np.random.default_rng(seed))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_harder_copies_differ_more(gradient: Image.Image) -> None:
    pixels = np.asarray(through_jpeg(gradient, 75), np.float64)
    distances = [
        np.mean(
            [
                np.abs(np.asarray(each(gradient, np.random.default_rng(seed))) - pixels).mean()
                for seed in range(20)
            ]
        )
        for each in (PUBLISHED, HARDER)
    ]
    assert distances[0] < distances[1]


def test_photographs_are_joined_by_either_table(lung: Lung) -> None:
    np.testing.assert_array_equal(lung.photographs, [0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9])


def test_a_set_of_copies(lung: Lung, tmp_path: Path) -> None:
    built = image_sets.build("published", tmp_path, lung, tmp_path, photographs=6)
    assert len(built) == len(list_images(built.images)) == 3 * 2 * image_sets.COPIES
    assert np.bincount(built.truths[COPIES_TRUTH]).tolist() == [image_sets.COPIES] * 6
    for group in range(6):
        members = np.flatnonzero(built.truths[COPIES_TRUTH] == group)
        assert len({built.sources[member] for member in members}) == 1
        assert len(set(built.classes[members])) == 1
    assert np.abs(np.diff(np.sort(members))).max() > 1  # in a random order
    pixels = {Path(path).read_bytes() for path in list_images(built.images)}
    assert len(pixels) == len(built)


def test_a_set_is_built_once(lung: Lung, tmp_path: Path) -> None:
    first = image_sets.build("lung", tmp_path, lung, tmp_path, photographs=3)
    times = [path.stat().st_mtime_ns for path in list_images(first.images)]
    again = image_sets.build("lung", tmp_path, lung, tmp_path, photographs=3)
    assert [path.stat().st_mtime_ns for path in list_images(again.images)] == times
    assert again.sources == first.sources
    list_images(first.images)[0].unlink()
    with pytest.raises(DataError, match="remove it, and run again"):
        image_sets.build("lung", tmp_path, lung, tmp_path, photographs=3)


def test_another_augmentation_or_image_is_another_set(
    lung: Lung, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = lambda name: image_sets.build(name, tmp_path, lung, tmp_path, photographs=3)  # noqa: E731
    before = {name: build(name).folder for name in ("published", "harder", "lung")}
    changed = dataclasses.replace(PUBLISHED, degrees=26)
    monkeypatch.setitem(image_sets._AUGMENTATIONS, "published", changed)
    assert build("published").folder != before["published"]
    assert build("harder").folder == before["harder"]
    file = next(
        path for path in sorted(lung.root.rglob("*.png")) if str(path).endswith(build("lung").sources[0])
    )
    file.write_bytes(file.read_bytes() + b"\0")
    of_other_file = build("lung").folder
    assert of_other_file != before["lung"]
    lung.human[:] = lung.human[::-1].copy()
    assert build("lung").folder not in (of_other_file, before["lung"])


def test_photographs_are_nested_and_of_all_classes(lung: Lung) -> None:
    few, more = (image_sets._selected(lung, count) for count in (4, 7))
    np.testing.assert_array_equal(more[:4], few)
    assert np.unique(lung.classes[few], return_counts=True)[1].tolist() == [2, 1, 1]
    assert len(image_sets._selected(lung, None)) == lung.photographs.max() + 1


def test_the_tuning_set_has_the_images_of_one_class(lung: Lung, tmp_path: Path) -> None:
    built = image_sets.build("tuning", tmp_path, lung, tmp_path)
    assert sorted(built.sources) == [file for file in lung.files if file.startswith("lung_aca/")]
    assert built.name == "tuning"


def test_the_lung_set_has_all_images_of_a_photograph_with_their_pixels(lung: Lung, tmp_path: Path) -> None:
    built = image_sets.build("lung", tmp_path, lung, tmp_path)
    assert sorted(built.sources) == sorted(lung.files)
    assert len(np.unique(built.truths[HUMAN])) == 11
    for path, source in zip(list_images(built.images), built.sources, strict=True):
        np.testing.assert_array_equal(Image.open(path), Image.open(lung.root / source))


def test_missing_images_and_folders_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--human"):
        image_sets.open_lung(tmp_path, tmp_path / "no")
    with pytest.raises(DataError, match="lung_image_sets"):
        image_sets.open_lung(tmp_path, tmp_path)


def test_leakage_of_splits_by_no_groups_and_by_the_truth() -> None:
    truth = np.repeat(np.arange(12), 5)
    labels = np.repeat([0, 0, 1, 1], 15)
    random = leakage.measure_split(np.arange(60), labels, {"copies": truth})
    known = leakage.measure_split(truth, labels, {"copies": truth})
    assert random["leakage"]["copies"] > 0.9
    assert known["leakage"]["copies"] == 0
    one = leakage.measure_split(np.zeros(60, int), labels, {"copies": truth})
    assert "has 1 group" in one["no_split"]


def test_the_nearest_neighbour_classifies_by_colour() -> None:
    distances = np.array([[0, 1, 9], [1, 0, 9], [9, 9, 0]], np.float32)
    classifier = leakage.NearestNeighbour(distances, np.array([0, 1, 1]))
    assert classifier.accuracy(np.array([1, 2]), np.array([0])) == 0.0
    assert classifier.accuracy(np.array([0, 2]), np.array([1])) == 0.0
