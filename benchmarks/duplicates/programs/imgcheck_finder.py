"""imgcheck: pHash with the eight turns and mirrors, clusters about medoids, its default threshold."""

from importlib import metadata

from imgcheck import grouping, hashing

from benchmarks.duplicates.scored_pairs import arguments, groups_of, numbered, save_groups

THRESHOLD = 3
"""The default of its command line."""


def main() -> None:
    """Hashes and clusters all images."""
    images, output = arguments()
    number = numbered(images)
    hashed = hashing.compute_hashes([str(image.resolve()) for image in images], rotation_invariant=True)
    clusters = grouping.cluster_duplicates(hashed, THRESHOLD, "medoid")
    found = [[number[path] for path in cluster.members] for cluster in clusters]
    save_groups(output, groups_of(len(images), found), metadata.version("imgcheck"))


if __name__ == "__main__":
    main()
