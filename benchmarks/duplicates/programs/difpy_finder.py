"""difPy: mean squared error of pixels, with rotation by right angles."""

from importlib import metadata

import difPy

from benchmarks.duplicates.scored_pairs import arguments, numbered, pairs_of, quiet, save_pairs

LARGEST = 2_000
"""Mean squared error up to which pairs are reported; its own "similar" is 5."""


def main() -> None:
    """Searches with a large error; difPy finds "similar" images among those."""
    images, output = arguments()
    number = numbered(images)
    with quiet():
        built = difPy.build(str(images[0].parent), show_progress=False)
        found = difPy.search(built, similarity=LARGEST, show_progress=False).result
    pairs = (
        (number[first], number[second], -error)
        for first, matches in found.items()
        for second, error in matches
    )
    save_pairs(output, pairs_of(pairs), metadata.version("difpy"))


if __name__ == "__main__":
    main()
