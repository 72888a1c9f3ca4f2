"""The search for near-duplicates on ordinary photographs, on copies made from them, and on digits.

python -m studies.duplicates_controls --data=DIR --folder=WORK

The photographs are those that scikit-image and scikit-learn contain. It writes each set as PNG files into
WORK, searches it, prints a row of the table in docs/duplicates.md, and leaves groups.csv and duplicates.html
to look at.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage
import sklearn.datasets
from PIL import Image

from benchmarks.duplicates.augment import HARDER, PUBLISHED
from jaxnets.commands.find_duplicates import find_duplicates
from jaxnets.data.groups import read_groups
from jaxnets.data.sources.mnist import MNIST
from jaxnets.runtime import console

PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png"),
    *("coffee.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png"),
    *("motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png"),
)
"""Of scikit-image; motorcycle_right.png is the other half of a stereo pair."""
COPIES, SIDE = 5, 512
MNIST_TEST = range(60_000, 70_000)


def photographs() -> Iterator[tuple[str, Image.Image]]:
    """Yields names and pictures of at most SIDE x SIDE pixels."""
    files = [Path(skimage.__file__).parent / "data" / name for name in PHOTOGRAPHS]
    files += sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))
    for file in files:
        picture = Image.open(file).convert("RGB")
        picture.thumbnail((SIDE, SIDE))
        yield file.stem, picture


def images(name: str, data: Path) -> Iterator[tuple[str, Image.Image]]:
    """Yields PHOTOGRAPH-NUMBER and picture of each image of a set."""
    if name == "digits":
        source = MNIST(data / "mnist")
        for index in MNIST_TEST:
            yield f"{index}-0", Image.fromarray(source[index]["image"][..., 0])
        return
    augmentation = {"copies": PUBLISHED, "harder copies": HARDER}.get(name)
    for number, (photograph, picture) in enumerate(photographs()):
        yield f"{photograph}-0", picture
        for copy in range(1, 1 + COPIES * bool(augmentation)):
            yield f"{photograph}-{copy}", augmentation(picture, np.random.default_rng((number, copy)))


def row(name: str, data: Path, folder: Path) -> str:
    """Searches a set; a row of the table in docs/duplicates.md."""
    for file, picture in images(name, data):
        path = folder / "images" / f"{file}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    find_duplicates([str(folder / "images")], out=str(folder / "groups.csv"))
    members = read_groups(folder / "groups.csv").members
    true = np.unique([file.rsplit("-", 1)[0] for file in members], return_inverse=True)[1]
    found = np.unique([group for _, group in members.values()], return_inverse=True)[1]
    pairs = lambda labels: int((np.bincount(labels) * (np.bincount(labels) - 1) // 2).sum())  # noqa: E731
    both = pairs(np.unique(true * len(found) + found, return_inverse=True)[1])
    counts = (len(true), pairs(true), both, pairs(found) - both)
    return f"| {name} | {' | '.join(f'{count:,}' for count in counts)} |"


def main() -> None:
    """Searches all sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder with MNIST's folder mnist")
    parser.add_argument("--folder", type=Path, required=True, help="a folder for images and results")
    options = parser.parse_args()
    console.show()
    names = ("photographs", "copies", "harder copies", "digits")
    rows = [row(name, options.data, options.folder / name.replace(" ", "_")) for name in names]
    print("\n".join(rows))


if __name__ == "__main__":
    main()
