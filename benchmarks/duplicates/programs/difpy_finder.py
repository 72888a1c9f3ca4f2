"""difPy's search for similar images: mean squared error of pixels, with rotation by right angles."""

from importlib import metadata

import difPy

from benchmarks.duplicates.scored_pairs import arguments, groups_of, numbered, quiet, save_groups


def main() -> None:
    """Searches with its setting for similar images; a wider one joins all images to the first one."""
    images, output = arguments()
    number = numbered(images)
    with quiet():
        built = difPy.build(str(images[0].parent), show_progress=False)
        result = difPy.search(built, similarity="similar", show_progress=False).result
    found = [[number[first], *(number[second] for second, _ in matches)] for first, matches in result.items()]
    save_groups(output, groups_of(len(images), found), metadata.version("difpy"))


if __name__ == "__main__":
    main()
