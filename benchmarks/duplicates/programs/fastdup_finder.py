"""fastdup with its own features: nearest neighbours by cosine similarity."""

import tempfile
from importlib import metadata
from pathlib import Path

import fastdup
import pandas

from benchmarks.duplicates.scored_pairs import arguments, numbered, pairs_of, save_pairs

NEIGHBOURS = 30
"""Per image; its default of 2 cannot find 20 copies."""
LEAST = 0.5
"""Smallest cosine of a reported pair; its default is 0.9."""


def main() -> None:
    """Searches with more neighbours and a lower threshold than the default."""
    images, output = arguments()
    number = numbered(images)
    with tempfile.TemporaryDirectory() as folder:
        fastdup.run(str(images[0].parent.resolve()), folder, nearest_neighbors_k=NEIGHBOURS, threshold=LEAST)
        table = pandas.read_csv(Path(folder) / "similarity.csv")
    found = zip(table["from"], table["to"], table["distance"], strict=True)
    pairs = pairs_of((number[str(first)], number[str(second)], score) for first, second, score in found)
    save_pairs(output, pairs, metadata.version("fastdup"))


if __name__ == "__main__":
    main()
