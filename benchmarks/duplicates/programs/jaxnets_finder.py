"""jaxnets: groups of copies, and groups of images that share content."""

import csv
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks.duplicates.scored_pairs import arguments, save_groups

SCRIPT = Path("scripts") / "find_duplicates.py"


def main() -> None:
    """Searches with the default settings."""
    images, output = arguments()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "groups.csv"
        command = [sys.executable, str(SCRIPT), str(images[0].parent), f"--out={table}"]
        subprocess.run(command, check=True)
        with open(table, newline="") as file:
            rows = {row["file"]: (row["original"], row["group"]) for row in csv.DictReader(file)}
    groups = [[int(label) for label in rows[image.name]] for image in images]
    save_groups(output, np.array(groups).T, metadata.version("jaxnets"))


if __name__ == "__main__":
    main()
