"""difPy: mean squared error of pixels, with rotation by right angles."""

from importlib import metadata

import difPy

from benchmarks.duplicates.scored_pairs import arguments, groups_of, numbered, quiet, save_groups, setting


def main() -> None:
    """Searches for duplicates, similar images, or those with at most a given error."""
    images, output = arguments()
    number = numbered(images)
    similarity = setting() if setting().isalpha() else float(setting())
    with quiet():
        built = difPy.build(str(images[0].parent), show_progress=False)
        result = difPy.search(built, similarity=similarity, show_progress=False).result
    found = [[number[first], *(number[second] for second, _ in matches)] for first, matches in result.items()]
    save_groups(output, groups_of(len(images), found), metadata.version("difpy"))


if __name__ == "__main__":
    main()
