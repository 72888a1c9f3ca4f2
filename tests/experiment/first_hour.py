"""Trains configs/image_folder.py:scratch on small folders and writes a table with one row per run.

    python tests/experiment/first_hour.py --table=TABLE.csv --work=FOLDER [--config.FIELD=VALUE ...]

Trains it on the ten folders of small_folders.py and on those given by --folder=NAME=DIR, with seeds 0, 1 and
2, with and without the C++ kernels: 66 runs of half a minute to two minutes on two cores. Rows that are in
the table already are skipped. --label names the rows, --config.FIELD=VALUE is passed to each run.
"""

import argparse
import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from small_folders import FOLDERS, draw

REPOSITORY = Path(__file__).parent.parent.parent
KEY = ("label", "folder", "kernels", "seed")
COLUMNS = (
    *KEY,
    "exit_code",
    "test_accuracy",
    "test_examples",
    "largest_validation_loss",
    "last_validation_loss",
    "largest_training_loss",
    "classes",
    "images",
    "warnings",
    "seconds",
)


def main() -> None:
    """Runs the missing rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--label", default="scratch")
    parser.add_argument("--config", default=f"{REPOSITORY}/configs/image_folder.py:scratch")
    parser.add_argument("--folder", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--only", default="", help="names of folders, divided by commas")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--kernels", default="yes,no")
    options, overrides = parser.parse_known_args()
    given = dict(one.split("=", 1) for one in options.folder)
    names = options.only.split(",") if options.only else [*FOLDERS, *given]
    done = {tuple(row[name] for name in KEY) for row in read(options.table)}
    for kernels in options.kernels.split(","):
        for seed in options.seeds.split(","):
            for name in names:
                if (options.label, name, kernels, seed) in done:
                    continue
                folder = Path(given[name]) if name in given else draw(name, options.work)
                row = _run(options, name, folder, kernels, seed, overrides)
                _append(options.table, row)
                print(*(row[column] for column in COLUMNS), flush=True)


def read(table: Path) -> list[dict[str, str]]:
    """The rows of a table; [] if it does not exist."""
    if not table.is_file():
        return []
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def _append(table: Path, row: dict[str, Any]) -> None:
    fresh = not table.is_file()
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def _run(
    options: argparse.Namespace, name: str, folder: Path, kernels: str, seed: str, overrides: list[str]
) -> dict[str, Any]:
    workdir = options.work / "runs" / f"{options.label}-{name}-{kernels}-{seed}"
    shutil.rmtree(workdir, ignore_errors=True)
    command = [
        sys.executable,
        str(REPOSITORY / "scripts" / "train.py"),
        f"--config={options.config}",
        f"--config.data.path={folder}",
        f"--config.data.cache_root={options.work / 'cache'}",
        f"--config.seed={seed}",
        f"--workdir={workdir}",
        "--config.log.tensorboard=False",
        "--config.log.every_steps=1",
        *([] if kernels == "yes" else ["--nokernels"]),
        *overrides,
    ]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    printed = process.stdout + process.stderr
    metrics = workdir / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.is_file() else []
    losses = {
        split: [line["values"]["loss"] for line in lines if line["split"] == split]
        for split in ("train", "validation")
    }
    found = workdir / "result.json"
    result = json.loads(found.read_text()) if found.is_file() else {}
    manifest = workdir / "manifest.json"
    classes = len(json.loads(manifest.read_text())["classes"]) if manifest.is_file() else 0
    shutil.rmtree(workdir / "checkpoints", ignore_errors=True)
    return {
        "label": options.label,
        "folder": name,
        "kernels": kernels,
        "seed": seed,
        "exit_code": process.returncode,
        "test_accuracy": result.get("test_accuracy"),
        "test_examples": result.get("test_examples"),
        "largest_validation_loss": max(losses["validation"], default=math.nan),
        "last_validation_loss": [math.nan, *losses["validation"]][-1],
        "largest_training_loss": max(losses["train"], default=math.nan),
        "classes": classes,
        "images": sum(1 for path in folder.rglob("*") if path.suffix in (".png", ".jpg", ".jpeg")),
        "warnings": printed.count("warning"),
        "seconds": round(result.get("seconds", math.nan), 1),
    }


if __name__ == "__main__":
    main()
