"""Perceptual hashes of all eight turns and mirrors: the smallest Hamming distance."""

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import imagehash
import numpy as np
import pdqhash
from PIL import Image

from benchmarks.duplicates.scored_pairs import arguments, hamming, save_pairs, setting


def turned(pixels: np.ndarray) -> list[np.ndarray]:
    """Returns an image [H, W, 3], its turns by right angles, and the mirrors of all four."""
    turns = [np.rot90(pixels, count) for count in range(4)]
    return [np.ascontiguousarray(each) for each in (*turns, *(np.fliplr(turn) for turn in turns))]


def pdq_bits(path: Path) -> np.ndarray:
    """Returns the hashes of an image, bool[8, 256]; PDQ computes all turns at once."""
    hashes, _ = pdqhash.compute_dihedral(np.asarray(Image.open(path).convert("RGB")))
    return np.array(hashes, bool)


def bits_of(path: Path, compute: Callable[[Image.Image], imagehash.ImageHash]) -> np.ndarray:
    """Returns the hashes of an image, bool[8, 64]."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return np.stack([compute(Image.fromarray(each)).hash.ravel() for each in turned(pixels)])


def main() -> None:
    """Hashes all images and compares all pairs."""
    images, output = arguments()
    if setting() == "pdq":
        package, bits = "pdqhash", np.stack([pdq_bits(path) for path in images])
    else:
        compute = getattr(imagehash, setting())
        package, bits = "imagehash", np.stack([bits_of(path, compute) for path in images])
    save_pairs(output, hamming(bits), metadata.version(package))


if __name__ == "__main__":
    main()
