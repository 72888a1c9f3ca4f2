"""jaxnets: groups of copies, and groups of images that share content."""

from importlib import metadata

import numpy as np

import jaxnets
from benchmarks.duplicates.scored_pairs import arguments, save_groups


def main() -> None:
    """Searches with the default settings."""
    images, output = arguments()
    found = jaxnets.find_duplicates(images[0].parent)
    place = {file: number for number, file in enumerate(found.files)}
    order = [place[image.name] for image in images]
    save_groups(output, np.stack([found.originals, found.groups])[:, order], metadata.version("jaxnets"))


if __name__ == "__main__":
    main()
