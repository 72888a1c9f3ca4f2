"""find_duplicates on ordinary photographs and on digits, and on copies made from them.

pip install --no-deps gradio mahotas ultralytics
python -m studies.duplicates_controls --data=DIR --folder=WORK

The photographs are those that Python packages contain: 32, each of a scene of its own. The digits are MNIST's
10,000 test images. Neither set has copies, so that every pair of images in one group is wrong; in the others
the copies are known. It writes each set as PNG files into WORK, searches it, stores the numbers in
results/duplicates/controls.json, and leaves groups.csv and duplicates.html to look at.
"""

import argparse
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks.duplicates.augment import HARDER, PUBLISHED
from benchmarks.duplicates.metrics import count_group_pairs
from jaxnets.data.groups import in_order, read_groups
from jaxnets.data.sources.mnist import MNIST
from jaxnets.io import atomic_write
from studies.duplicates_scaling import RESULTS, search

PHOTOGRAPHS = {
    "skimage/data": (
        *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png"),
        *("coffee.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png"),
        *("microaneurysms.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg"),
        "text.png",
    ),
    "sklearn/datasets/images": ("china.jpg", "flower.jpg"),
    "matplotlib/mpl-data/sample_data": ("grace_hopper.jpg",),
    "gradio/media_assets/images": ("cheetah.jpg", "cheetah1.jpg", "groot.jpeg", "lion.jpg", "tower.jpg"),
    "gradio/test_data": ("cheetah2.jpg",),
    "mahotas/demos/data": ("luispedro.jpg", "nuclear.png"),
    "ultralytics/assets": ("bus.jpg", "zidane.jpg"),
}
"""Files by folder of a package."""
SIDE = 512
TEST_DIGITS = range(60_000, 70_000)
COPIES = {
    "photographs": None,
    "photographs, with copies like LC25000": (5, PUBLISHED),
    "photographs, with harder copies": (5, HARDER),
    "digits": None,
    "digits, with copies like LC25000": (1, PUBLISHED),
}
"""Copies of each image by set: their number, and how they are augmented."""
ROWS = Path("duplicates") / "controls.json"
HEADS = ("images", "number", "pairs of copies", "found", "other pairs in one group", "processor time, s")


def photographs() -> Iterator[Image.Image]:
    """Yields the central squares of the photographs, at most SIDE x SIDE pixels."""
    for folder, names in PHOTOGRAPHS.items():
        package, _, rest = folder.partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(
                f"{package} is not installed, of which {names[0]} is part: pip install {package}"
            )
        for name in names:
            image = Image.open(Path(spec.origin).parent / rest / name).convert("RGB")
            yield ImageOps.fit(image, (min(SIDE, *image.size),) * 2)


def digits(data: Path) -> Iterator[Image.Image]:
    """Yields MNIST's test images."""
    source = MNIST(data / "mnist")
    for index in TEST_DIGITS:
        yield Image.fromarray(np.repeat(source[index]["image"], 3, axis=-1))


def make_images(name: str, data: Path, folder: Path) -> None:
    """Writes NUMBER-COPY.png for every image that is missing; copy 0 is the image itself."""
    count, augmentation = COPIES[name] or (0, PUBLISHED)
    images = digits(data) if name.startswith("digits") else photographs()
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        for copy in range(1 + count):
            path = folder / f"{number}-{copy}.png"
            if not path.exists():
                drawn = augmentation(image, np.random.default_rng((number, copy))) if copy else image
                drawn.save(path)


def measure(folder: Path) -> dict[str, Any]:
    """Searches a folder of images, and counts the pairs of copies and of other images in one group."""
    cost = search(folder)
    members = read_groups(folder.with_name("groups.csv")).members
    truth = in_order([file.split("-")[0] for file in members])
    pairs = count_group_pairs(in_order([group for _, group in members.values()]), truth)
    found = int(pairs.found.diagonal().sum())
    return {
        "copies": int(pairs.true.sum()),
        "found": found,
        "wrong": int(pairs.found.sum()) - found,
        **{name: cost[name] for name in ("images", "processor_seconds")},
    }


def rows(results: Path) -> list[tuple[str, ...]]:
    """The rows of the table in docs/duplicates.md."""
    path = results / ROWS
    stored = json.loads(path.read_text()) if path.exists() else {}
    return [
        (
            name,
            f"{row['images']:,}",
            f"{row['copies']:,}" if row["copies"] else "",
            f"{row['found']:,} ({100 * row['found'] / row['copies']:.1f} %)" if row["copies"] else "",
            f"{row['wrong']:,}",
            f"{row['processor_seconds']:,.0f}",
        )
        for name, row in stored.items()
    ]


def main() -> None:
    """Measures all sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder with MNIST's folder mnist")
    parser.add_argument("--folder", type=Path, required=True, help="a folder for images and results")
    options = parser.parse_args()
    measured = {}
    for name in COPIES:
        folder = options.folder / name.replace(", ", "_").replace(" ", "_") / "images"
        make_images(name, options.data, folder)
        measured[name] = measure(folder)
    path = RESULTS / ROWS
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
