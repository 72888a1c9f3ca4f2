"""Processor time and memory of find_duplicates by the number of images.

python -m studies.duplicates_scaling --images=DIR/lung_image_sets --folder=WORK --count=10000

It makes COUNT images from one image of each of LC25000's 750 originals as its authors did (turns of up to 25
degrees, mirrors, unequal zoom, JPEG), searches them with two processes, and stores a row in
results/duplicates/scaling.json. No search reuses the results of another.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.duplicates.augment import PUBLISHED
from benchmarks.resource_usage import children_of, memory_with_children
from benchmarks.subprocess_workload import measured_command
from jaxnets.data.groups import shipped_groups
from jaxnets.io import atomic_write

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
ROWS = Path("duplicates") / "scaling.json"
WORKERS, POLL_SECONDS = 2, 0.2
HEADS = (
    *("images", "processor time, s", "ms per image", "peak memory, MB"),
    *("intermediate results, MB", "pairs compared"),
)


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


def search(folder: Path) -> dict[str, Any]:
    """Searches a folder by the script, from the start; the table and the page become its neighbours."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        outputs = (f"--out={work}/groups.csv", f"--json={work}/found.json", f"--workers={WORKERS}")
        command = [sys.executable, "scripts/find_duplicates.py", str(folder), *outputs]
        process = subprocess.Popen(measured_command(command), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(memory_with_children, children_of(process.pid))))
            time.sleep(POLL_SECONDS)
        usage = json.loads(process.communicate()[0])
        if usage["code"]:
            sys.exit(usage["code"])
        numbers = json.loads(Path(work, "found.json").read_text())
        files = Path(work).glob(".groups.work/*/*")
        for name in ("groups.csv", "duplicates.html"):
            Path(work, name).replace(folder.with_name(name))
        return {
            "images": numbers["images"],
            "originals": numbers["originals"],
            "groups": numbers["groups"],
            "pairs_compared": numbers["confidence"]["pairs_compared"],
            "processor_seconds": round(usage["processor_seconds"], 1),
            "peak_memory_mb": round(peak / 1e6),
            "work_files_mb": round(sum(path.stat().st_size for path in files) / 1e6),
        }


def read(results: Path) -> list[dict[str, Any]]:
    """The stored rows, by number of images."""
    path = results / ROWS
    return json.loads(path.read_text()) if path.exists() else []


def rows(results: Path) -> list[tuple[str, ...]]:
    """The rows of the table in docs/duplicates.md."""
    names = ("peak_memory_mb", "work_files_mb", "pairs_compared")
    return [
        (
            f"{row['images']:,}",
            f"{row['processor_seconds']:,.0f}",
            f"{1e3 * row['processor_seconds'] / row['images']:.1f}",
            *(f"{row[name]:,}" for name in names),
        )
        for row in read(results)
    ]


def law(results: Path) -> str:
    """A sentence with the law of time and memory; "" without two rows."""
    stored = read(results)
    if len(stored) < 2:
        return ""
    seconds, memory = (fit(stored, name) for name in ("processor_seconds", "peak_memory_mb"))
    return (
        f"The lines through these rows: {seconds[1]:.0f} s of processor time and {1000 * seconds[0]:.1f} s "
        f"per thousand images; {memory[1]:,.0f} MB of memory and {1000 * memory[0]:.0f} MB per thousand."
    )


def fit(stored: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    """float64[2]: slope and constant of the line through `name` by images, with the least relative errors."""
    counts, values = (np.array([row[key] for row in stored], float) for key in ("images", name))
    return np.polyfit(counts, values, 1, w=1 / values)


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
    row = search(folder)
    stored = [row, *(other for other in read(RESULTS) if other["images"] != options.count)]
    path = RESULTS / ROWS
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(sorted(stored, key=lambda row: row["images"]), indent=1) + "\n")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
