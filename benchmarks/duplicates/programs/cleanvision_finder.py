"""CleanVision: exact duplicates, and near duplicates, whose hashes are equal."""

from importlib import metadata

from cleanvision import Imagelab

from benchmarks.duplicates.scored_pairs import arguments, groups_of, numbered, save_groups, setting


def main() -> None:
    """Searches for duplicates alone, with the type and size of a hash."""
    images, output = arguments()
    hash_type, size = setting().split()
    near = {"hash_type": hash_type, "hash_size": int(size)}
    lab = Imagelab(data_path=str(images[0].parent))
    lab.find_issues({"exact_duplicates": {}, "near_duplicates": near}, verbose=False)
    number = numbered(images)
    found = [
        [number[path] for path in members]
        for kind in ("exact_duplicates", "near_duplicates")
        for members in lab.info[kind]["sets"]
    ]
    save_groups(output, groups_of(len(images), found), metadata.version("cleanvision"))


if __name__ == "__main__":
    main()
