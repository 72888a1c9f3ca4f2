"""The study of sets without copies, and of copies made from them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studies import duplicates_controls
from studies.duplicates_controls import COPIES, measure, photographs


def test_photographs_are_of_scenes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("skimage", "sklearn"):
        pytest.importorskip(name)
    few = {folder: names for folder, names in duplicates_controls.PHOTOGRAPHS.items() if "sk" in folder}
    monkeypatch.setattr(duplicates_controls, "PHOTOGRAPHS", few)
    found = list(photographs())
    assert len(found) == 21
    assert max(max(image.size) for image in found) == duplicates_controls.SIDE
    assert len({image.tobytes() for image in found}) == 21


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates_controls, "PHOTOGRAPHS", {"no_such_package/data": ("a.png",)})
    with pytest.raises(SystemExit, match="pip install no_such_package"):
        list(photographs())


@pytest.mark.slow
def test_pairs_of_copies_and_of_others_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    generator = np.random.default_rng(0)
    scenes = [Image.fromarray(generator.integers(0, 256, (40, 40, 3), np.uint8)).resize((160, 160))]
    scenes.append(Image.new("RGB", (160, 160), (9, 9, 9)))
    monkeypatch.setattr(duplicates_controls, "photographs", lambda: iter([*scenes, scenes[1]]))
    name = next(name for name, copies in COPIES.items() if copies and name.startswith("photographs"))
    folder = tmp_path / "images"
    duplicates_controls.make_images(name, tmp_path, folder)
    assert len(list(folder.iterdir())) == 18  # three pictures with five copies each
    found = measure(folder)
    assert found["copies"] == 3 * 15
    assert found["found"] == 3 * 15  # copies of a plain picture are equal
    assert found["wrong"] == 6 * 6  # two pictures that are the same


def test_rows_of_the_page(tmp_path: Path) -> None:
    assert duplicates_controls.rows(tmp_path) == []
    numbers = {"images": 2_000, "processor_seconds": 12.3, "wrong": 7}
    stored = {
        "digits": {**numbers, "copies": 0, "found": 0},
        "with copies": {**numbers, "copies": 40, "found": 39},
    }
    path = tmp_path / duplicates_controls.ROWS
    path.parent.mkdir()
    path.write_text(json.dumps(stored))
    assert duplicates_controls.rows(tmp_path) == [
        ("digits", "2,000", "", "", "7", "12"),
        ("with copies", "2,000", "40", "39 (97.5 %)", "7", "12"),
    ]
