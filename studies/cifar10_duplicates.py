"""Near-duplicates in CIFAR-10: the table that the package ships, compared with pairs judged by people.

python -m studies.cifar10_duplicates --data=DIR --folder=WORK --judged=CIFAIR/meta

It writes the 60,000 images as PNG files, one folder per class, into WORK, searches them, and writes
WORK/groups.csv, WORK/cifar10_groups.csv.gz (the images with a near-duplicate, by the names of jaxnets's
source) and WORK/cifar10.json (counts, stored in results/duplicates). The judged pairs are those of Barz and
Denzler (arXiv:1902.00423, github.com/cvjena/cifair).
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import jaxnets
from jaxnets.data.groups import Groups
from jaxnets.data.near_duplicates.search import Duplicates
from jaxnets.data.sources.cifar10 import CIFAR10
from jaxnets.io import atomic_write
from jaxnets.runtime import console

TEST = 50_000  # the index of the first test image
LISTS = {"duplicates_cifar10.csv": 0, "duplicates_cifar10_test.csv": TEST}
"""The lists of judged pairs, and the index of their first partner: in train, or within test."""
NUMBERS = Path("duplicates") / "cifar10.json"
HEADS = ("judged by people as", "pairs", "in one group of ours")
JUDGMENTS = {1: "the same shot", 2: "very similar"}


def write_images(source: CIFAR10, folder: Path) -> list[str]:
    """Writes CLASS/BATCH-NUMBER.png for every image and returns their names."""
    names = []
    for index, (file, label) in enumerate(zip(source.files, source.labels, strict=True)):
        path = folder / source.classes[label] / f"{file.replace('/', '-')}.png"
        names.append(path.relative_to(folder).as_posix())
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(source.images[index]).save(path, compress_level=1)
    return names


def in_source_order(found: Duplicates, names: list[str]) -> np.ndarray:
    """int[N]: the group of each image of the source, whose files have `names`."""
    group_of = dict(zip(found.files, found.groups.tolist(), strict=True))
    return np.array([group_of[name] for name in names])


def shipped_table(source: CIFAR10, groups: np.ndarray) -> Groups:
    """The images that have a near-duplicate; the groups are numbered in order."""
    repeated = np.flatnonzero(np.bincount(groups)[groups] > 1)
    _, labels = np.unique(groups[repeated], return_inverse=True)
    names = (source.files[index] for index in repeated)
    return Groups(
        "cifar10", {name: (str(label), str(label)) for name, label in zip(names, labels, strict=True)}
    )


def judged_pairs(folder: Path) -> dict[tuple[int, int], int]:
    """The judgment of each pair of indices (test image, partner)."""
    return {
        (TEST + int(row["TestID"]), first + int(row["TrainID"])): int(row["Judgment"])
        for name, first in LISTS.items()
        for row in csv.DictReader((folder / name).open())
    }


def summarize(groups: np.ndarray, judged: dict[tuple[int, int], int]) -> dict[str, Any]:
    """Counts of groups and of leaking test images, and how many judged pairs are in one group."""
    sizes = np.bincount(groups)
    leaking = np.flatnonzero(np.isin(groups[TEST:], groups[:TEST])) + TEST
    judged_test = [first for first, second in judged if second < TEST]
    pairs = {
        meaning: [
            groups[first] == groups[second] for (first, second), value in judged.items() if value == key
        ]
        for key, meaning in JUDGMENTS.items()
    }
    return {
        "images": int((sizes[groups] > 1).sum()),
        "groups": int((sizes > 1).sum()),
        "largest": int(sizes.max()),
        "leaking_test_images": len(leaking),
        "leaking_test_images_in_no_judged_pair": int((~np.isin(leaking, judged_test)).sum()),
        "judged_pairs": {
            name: {"pairs": len(found), "found": int(sum(found))} for name, found in pairs.items()
        },
    }


def rows(results: Path) -> list[tuple[str, ...]]:
    """The rows of the table in docs/duplicates.md."""
    path = results / NUMBERS
    stored = json.loads(path.read_text())["judged_pairs"] if path.exists() else {}
    return [
        (
            meaning,
            f"{counts['pairs']}",
            f"{counts['found']} ({100 * counts['found'] / counts['pairs']:.0f} %)",
        )
        for meaning, counts in stored.items()
    ]


def main() -> None:
    """Searches CIFAR-10."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder with CIFAR-10")
    parser.add_argument("--folder", type=Path, required=True, help="a folder for images and results")
    parser.add_argument(
        "--judged", type=Path, required=True, help="the folder with the lists of judged pairs"
    )
    options = parser.parse_args()
    console.show()
    source = CIFAR10.open(options.data)
    names = write_images(source, options.folder / "images")
    found = jaxnets.find_duplicates(options.folder / "images", workdir=options.folder / "work")
    found.to_groups("groups.csv").write(options.folder / "groups.csv")
    groups = in_source_order(found, names)
    shipped_table(source, groups).write(options.folder / "cifar10_groups.csv.gz")
    numbers = summarize(groups, judged_pairs(options.judged))
    atomic_write(options.folder / NUMBERS.name, json.dumps(numbers, indent=1) + "\n")
    print(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
