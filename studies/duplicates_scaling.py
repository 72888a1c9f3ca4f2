"""Time and memory of find_duplicates by the number of images.

python -m studies.duplicates_scaling --images=DIR/lung_image_sets --folder=WORK --count=10000

It makes COUNT images from one image of each of LC25000's 750 originals as its authors did (turns of up to 25
degrees, mirrors, unequal zoom, JPEG), searches them with two processes, and stores a row in
results/duplicates/scaling.json. No search reuses the results of another.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.duplicates.augment import PUBLISHED
from benchmarks.resource_usage import memory_with_children
from jaxnets.data.groups import shipped_groups
from jaxnets.io import atomic_write

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "results" / "duplicates" / "scaling.json"
WORKERS, POLL_SECONDS = 2, 0.2


def first_of_each_original() -> list[str]:
    """The first file of every original of LC25000's lung images."""
    first: dict[str, str] = {}
    for file, (original, _) in shipped_groups("lc25000_lung").members.items():
        first.setdefault(original, file)
    return list(first.values())


def make_images(source: Path, folder: Path, count: int) -> None:
    """Writes CLASS/NUMBER.jpg for every image that is missing."""
    files = first_of_each_original()
    for number in range(count):
        file = files[number % len(files)]
        path = folder / file.split("/")[0] / f"{number}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            copy = PUBLISHED(Image.open(source / file).convert("RGB"), np.random.default_rng(number))
            data = io.BytesIO()
            copy.save(data, "JPEG", quality=PUBLISHED.quality[0])
            atomic_write(path, data.getvalue())


def search(folder: Path, count: int) -> dict[str, Any]:
    """Searches a folder of `count` images by the script, from the start."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        outputs = (f"--out={work}/groups.csv", f"--json={work}/found.json", f"--workers={WORKERS}")
        before, start = _processor_seconds(), time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "scripts/find_duplicates.py", str(folder), *outputs], cwd=ROOT
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory_with_children(process.pid))
            time.sleep(POLL_SECONDS)
        if process.returncode:
            sys.exit(process.returncode)
        numbers = json.loads(Path(work, "found.json").read_text())
        files = Path(work).glob(".groups.work/*/*")
        return {
            "images": count,
            "originals": numbers["originals"],
            "groups": numbers["groups"],
            "pairs_compared": numbers["confidence"]["pairs_compared"],
            "processor_seconds": round(_processor_seconds() - before, 1),
            "seconds": round(time.monotonic() - start, 1),
            "stage_seconds": numbers["run"]["seconds"],
            "peak_memory_mb": round(peak / 1e6),
            "work_files_mb": round(sum(path.stat().st_size for path in files) / 1e6),
        }


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


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
    row = search(folder, options.count)
    rows = json.loads(ROWS.read_text()) if ROWS.exists() else []
    rows = [row, *(other for other in rows if other["images"] != options.count)]
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(ROWS, json.dumps(sorted(rows, key=lambda row: row["images"]), indent=1) + "\n")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
