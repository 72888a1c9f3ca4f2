"""The Python binding of czkawka: groups of images around a first one, by the distance of their hashes."""

from importlib import metadata

from czkawka import ImageSimilarity

from benchmarks.duplicates.scored_pairs import arguments, groups_of, numbered, save_groups, setting


def main() -> None:
    """Searches with a largest distance from 0 to 50."""
    images, output = arguments()
    number = numbered(images)
    finder = ImageSimilarity()
    finder.set_directories([images[0].parent])
    finder.set_similarity(int(setting()))
    found = [[number[str(path)] for path in members] for members in finder.find_similar()]
    save_groups(output, groups_of(len(images), found), metadata.version("czkawka"))


if __name__ == "__main__":
    main()
