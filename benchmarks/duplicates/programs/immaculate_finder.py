"""Immaculate: exact and near duplicates by PDQ or by the features of SSCD."""

from importlib import metadata

from immaculate import find_duplicates

from benchmarks.duplicates.scored_pairs import arguments, groups_of, numbered, save_groups, setting


def main() -> None:
    """Searches with the default settings of a method."""
    images, output = arguments()
    number = numbered(images)
    result = find_duplicates(str(images[0].parent.resolve()), method=setting())
    found = [[number[str(path)] for path in members] for members in (*result.exact, *result.near)]
    save_groups(output, groups_of(len(images), found), metadata.version("immaculate"))


if __name__ == "__main__":
    main()
