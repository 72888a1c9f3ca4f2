"""Time and memory of find_duplicates by the number of images.

python -m studies.duplicates_scaling --images=DIR/lung_image_sets --folder=WORK --count=10000

It makes COUNT images from one image of each of LC25000's 750 originals as its authors did (turns of up to 25
degrees, mirrors, unequal zoom, JPEG), searches them with two processes, and stores a row in
results/duplicates/scaling.json.
"""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from jaxnets.data.groups import shipped_groups
from jaxnets.data.images import read_image
from jaxnets.io import atomic_write

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "results" / "duplicates" / "scaling.json"
DEGREES, ZOOM, QUALITY = 25.0, 1.6, 75  # the most
WORKERS = 2


def first_of_each_original() -> list[str]:
    """The first file of every original of LC25000's lung images."""
    first: dict[str, str] = {}
    for file, (original, _) in shipped_groups("lc25000_lung").members.items():
        first.setdefault(original, file)
    return list(first.values())


def random_map(generator: np.random.Generator, size: int) -> np.ndarray:
    """An affine map, float64[2, 3], about the centre of an image of `size` x `size` pixels."""
    angle = np.deg2rad(generator.uniform(-DEGREES, DEGREES))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag(generator.uniform(1, ZOOM, 2) * generator.choice([-1, 1], 2))
    centre = np.full(2, (size - 1) / 2)
    return np.concatenate([linear, (centre - linear @ centre)[:, None]], 1)


def make_images(source: Path, folder: Path, count: int) -> None:
    """Writes CLASS/NUMBER.jpg for every image that is missing."""
    files = first_of_each_original()
    for number in range(count):
        file = files[number % len(files)]
        path = folder / file.split("/")[0] / f"{number}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        image = read_image(source / file)
        matrix = random_map(np.random.default_rng(number), len(image))
        turned = cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
        data = cv2.imencode(".jpg", turned[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        path.write_bytes(data.tobytes())


def search(folder: Path, count: int) -> dict[str, float]:
    """Runs the script in its own process; the memory is that of its largest process."""
    found = folder.parent / "found.json"
    outputs = (f"--out={folder.parent / 'groups.csv'}", f"--json={found}", f"--workers={WORKERS}")
    subprocess.run(
        [sys.executable, "scripts/find_duplicates.py", str(folder), *outputs], cwd=ROOT, check=True
    )
    numbers = json.loads(found.read_text())
    return {
        "images": count,
        "originals": numbers["originals"],
        "pairs_compared": numbers["confidence"]["pairs_compared"],
        "processor_seconds": numbers["run"]["processor_seconds"],
        "largest_process_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "work_files_mb": round(sum(_sizes(folder.parent)) / 1e6),
    }


def _sizes(folder: Path) -> Iterator[int]:
    return (path.stat().st_size for path in folder.glob(".groups.work/*/*"))


def main() -> None:
    """Measures one number of images."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="the folder lung_image_sets of LC25000")
    parser.add_argument("--folder", type=Path, required=True, help="a folder for images and results")
    parser.add_argument("--count", type=int, required=True, help="the number of images")
    options = parser.parse_args()
    folder = options.folder / str(options.count) / "images"
    make_images(options.images, folder, options.count)
    rows = json.loads(ROWS.read_text()) if ROWS.exists() else []
    rows = [row for row in rows if row["images"] != options.count] + [search(folder, options.count)]
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(ROWS, json.dumps(sorted(rows, key=lambda row: row["images"]), indent=1) + "\n")
    print(json.dumps(rows[-1]))


if __name__ == "__main__":
    main()
