"""The images and the memory of the study of times by the number of images."""

import os
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


def test_memory_of_this_process_is_measured() -> None:
    before = duplicates_scaling.memory(os.getpid())
    block = np.ones(50_000_000, np.uint8)
    assert before + 0.9 * block.nbytes < duplicates_scaling.memory(os.getpid()) < before + 2 * block.nbytes
