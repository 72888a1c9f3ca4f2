"""imgcheck: clusters of images by pHash, on request with the eight turns and mirrors."""

from importlib import metadata

from imgcheck import grouping, hashing

from benchmarks.duplicates.scored_pairs import arguments, groups_of, numbered, save_groups, setting


def main() -> None:
    """Hashes and clusters all images: CLUSTERING THRESHOLD [turned]."""
    images, output = arguments()
    number = numbered(images)
    clustering, threshold, *turned = setting().split()
    hashed = hashing.compute_hashes(
        [str(image.resolve()) for image in images], rotation_invariant=bool(turned)
    )
    clusters = grouping.cluster_duplicates(hashed, int(threshold), clustering)
    found = [[number[path] for path in cluster.members] for cluster in clusters]
    save_groups(output, groups_of(len(images), found), metadata.version("imgcheck"))


if __name__ == "__main__":
    main()
