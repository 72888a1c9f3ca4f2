"""The study of times by the number of images: its images, a search, the fitted law."""

import json
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


def test_rows_and_law_of_the_page(tmp_path: Path) -> None:
    assert duplicates_scaling.rows(tmp_path) == []
    assert duplicates_scaling.law(tmp_path) == ""
    stored = [
        {
            "images": count,
            "processor_seconds": 50 + 0.02 * count,
            "peak_memory_mb": 600 + count // 20,
            "work_files_mb": 53,
            "pairs_compared": 57_194,
        }
        for count in (1_000, 3_000, 10_000)
    ]
    path = tmp_path / duplicates_scaling.ROWS
    path.parent.mkdir()
    path.write_text(json.dumps(stored))
    assert duplicates_scaling.rows(tmp_path)[0] == ("1,000", "70", "70.0", "650", "53", "57,194")
    assert duplicates_scaling.law(tmp_path) == (
        "The lines through these rows: 50 s of processor time and 20.0 s per thousand images; "
        "600 MB of memory and 50 MB per thousand."
    )
