"""imagededup: its hashes, or its network with cosine similarity."""

import contextlib
from importlib import import_module, metadata

import numpy as np
import torch

from benchmarks.duplicates.scored_pairs import arguments, cosines, hamming, save_pairs, setting

OPERATORS = ("nms", "qnms")
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def declare_operators() -> None:
    """Makes torchvision importable where its compiled operators need another build of PyTorch.

    imagededup uses none of them.
    """
    with contextlib.suppress(RuntimeError):
        import_module("torchvision")
        return
    for name in OPERATORS:
        torch.library.define(f"torchvision::{name}", SIGNATURE)


def main() -> None:
    """Encodes all images with imagededup; compares all pairs of encodings, as imagededup does."""
    images, output = arguments()
    declare_operators()
    encoder = getattr(import_module("imagededup.methods"), setting())(verbose=False)
    encodings = encoder.encode_images(image_dir=str(images[0].parent))
    rows = [encodings[image.name] for image in images]
    if setting() == "CNN":
        pairs = cosines(np.stack(rows).reshape(len(rows), -1))
    else:
        bits = [[int(digit) for digit in f"{int(text, 16):064b}"] for text in rows]
        pairs = hamming(np.array(bits, bool)[:, None])
    save_pairs(output, pairs, metadata.version("imagededup"))


if __name__ == "__main__":
    main()
