"""The images of the study of times by the number of images."""

from pathlib import Path

import numpy as np
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
