"""The Python binding of czkawka: pairs by the distance of their hashes."""

from importlib import metadata

from czkawka import ImageSimilarity

from benchmarks.duplicates.scored_pairs import arguments, numbered, pairs_of, save_pairs

LARGEST = 50
"""The largest distance that it accepts."""


def main() -> None:
    """Searches with the largest distance."""
    images, output = arguments()
    number = numbered(images)
    finder = ImageSimilarity()
    finder.set_directories([images[0].parent])
    finder.set_similarity(LARGEST)
    found = (
        (number[str(first)], number[str(second)], -distance)
        for group in finder.find_similar_with_distances()
        for first, second, distance in group
    )
    save_pairs(output, pairs_of(found), metadata.version("czkawka"))


if __name__ == "__main__":
    main()
