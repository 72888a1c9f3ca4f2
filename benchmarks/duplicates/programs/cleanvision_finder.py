"""CleanVision with its default settings: exact and near duplicates."""

from importlib import metadata

from cleanvision import Imagelab

from benchmarks.duplicates.scored_pairs import arguments, groups_of, numbered, save_groups


def main() -> None:
    """Searches for duplicates alone."""
    images, output = arguments()
    lab = Imagelab(data_path=str(images[0].parent))
    lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, verbose=False)
    number = numbered(images)
    found = [
        [number[path] for path in members]
        for kind in ("exact_duplicates", "near_duplicates")
        for members in lab.info[kind]["sets"]
    ]
    save_groups(output, groups_of(len(images), found), metadata.version("cleanvision"))


if __name__ == "__main__":
    main()
