"""The study of times by the number of images: its images, a search, the fitted law."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studies import duplicates_scaling


def test_images_are_made_once_from_the_first_of_each_original(tmp_path: Path) -> None:
    files = duplicates_scaling.first_of_each_original()
    assert len(files) == len(set(files)) == 750
    for file in files[:2]:
        (tmp_path / "source" / file).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "source" / file)
    made = tmp_path / "made"
    duplicates_scaling.make_images(tmp_path / "source", made, 2)
    (path, _) = sorted(made.rglob("*.jpg"))
    path.write_bytes(b"")
    duplicates_scaling.make_images(tmp_path / "source", made, 2)
    assert path.read_bytes() == b""


@pytest.mark.slow
def test_search_measures_and_leaves_the_page(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (80, 80, 3), np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    row = duplicates_scaling.search(images)
    assert (row["images"], row["originals"], row["groups"]) == (3, 3, 3)
    assert row["processor_seconds"] > 0.5  # Python's and the workers' imports alone
    assert row["peak_memory_mb"] > 100
    assert {path.name for path in tmp_path.iterdir()} == {"images", "groups.csv", "duplicates.html"}


def test_fit_finds_constant_linear_and_quadratic_parts() -> None:
    counts = (1_000, 3_000, 10_000, 30_000)
    rows = [{"images": count, "s": 5 + 2e-3 * count + 3e-7 * count**2} for count in counts]
    np.testing.assert_allclose(duplicates_scaling.fit(rows, "s"), [5, 2e-3, 3e-7], rtol=1e-6)
    linear = [{"images": count, "s": 2e-3 * count} for count in counts]
    np.testing.assert_allclose(duplicates_scaling.fit(linear, "s"), [0, 2e-3, 0], atol=1e-9)
