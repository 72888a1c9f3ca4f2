"""Images with equal pixels."""

import hashlib
import platform

import numpy as np
from PIL import Image

from benchmarks.duplicates.scored_pairs import arguments, save_groups


def main() -> None:
    """Groups images by the sha256 of their pixels."""
    images, output = arguments()
    digests = [hashlib.sha256(np.asarray(Image.open(image)).tobytes()).hexdigest() for image in images]
    save_groups(output, np.unique(digests, return_inverse=True)[1], platform.python_version())


if __name__ == "__main__":
    main()
