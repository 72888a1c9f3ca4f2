"""fastdup with its own features: nearest neighbours by cosine similarity."""

import tempfile
from importlib import metadata
from pathlib import Path

import fastdup
import pandas

from benchmarks.duplicates.scored_pairs import arguments, numbered, pairs_of, save_pairs, setting


def main() -> None:
    """Searches with a number of neighbours per image and a smallest cosine."""
    images, output = arguments()
    number = numbered(images)
    neighbours, least = setting().split()
    with tempfile.TemporaryDirectory() as folder:
        fastdup.run(
            str(images[0].parent.resolve()),
            folder,
            nearest_neighbors_k=int(neighbours),
            threshold=float(least),
        )
        table = pandas.read_csv(Path(folder) / "similarity.csv")
    found = zip(table["from"], table["to"], table["distance"], strict=True)
    pairs = pairs_of((number[str(first)], number[str(second)], score) for first, second, score in found)
    save_pairs(output, pairs, metadata.version("fastdup"))


if __name__ == "__main__":
    main()
