"""How good is a network from few images of your own? Trains on small folders and tests on 500 other images.

    python -m studies.few_images

writes results/few_images.json, from which scripts/compare.py makes a table in docs/fine_tuning.md. It skips
rows that the file has. CIFAR-10 and LC25000 have to be prepared (scripts/prepare_data.py).
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import jaxnets
from jaxnets import config as config_lib
from jaxnets.data.groups import shipped_groups
from jaxnets.data.sources.cifar10 import CIFAR10
from jaxnets.evaluation.statistics import wilson_interval
from jaxnets.experiment.predictor import Predictor
from jaxnets.io import atomic_write
from jaxnets.runtime import console, xla

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "few_images.json"
TESTED = 500
PER_CLASS = (40, 10)
VARIANTS = {"transfer": "ImageNet, new head", "finetune": "ImageNet, fine-tuned", "scratch": "from scratch"}
HEADS = ("images", "per class", "training", "accuracy on others [95 %]", "seconds")
Images = dict[str, Iterator[np.ndarray]]
"""An endless or long enough stream of images uint8[H, W, 3] for each class."""


def _data() -> Path:
    return config_lib.data_root(config_lib.default_config())


def drawn_shapes() -> Images:
    """Five shapes of any colour, size, place and angle, on noise: 128 px."""
    corners = {"triangle": 3, "square": 4, "pentagon": 5, "star": 10, "circle": 60}
    return {name: _shapes(name, count, seed) for seed, (name, count) in enumerate(corners.items())}


def _shapes(name: str, corners: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    while True:
        background, colour = generator.integers(0, 256, (2, 3))
        if np.abs(background - colour).max() < 80:  # hard to see
            continue
        noise = generator.normal(0, 12, (128, 128, 3))
        image = Image.fromarray(np.clip(background + noise, 0, 255).astype(np.uint8))
        radius, turn = generator.uniform(20, 45), generator.uniform(0, 2 * np.pi)
        centre = generator.uniform(radius, 128 - radius, 2)
        angles = turn + 2 * np.pi * np.arange(corners) / corners
        radii = np.where((np.arange(corners) % 2 == 1) & (name == "star"), 0.45 * radius, radius)
        points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        ImageDraw.Draw(image).polygon([tuple(point) for point in points], fill=tuple(int(c) for c in colour))
        yield np.asarray(image)


def cifar10() -> Images:
    """The first five classes of CIFAR-10: 32 px."""
    source = CIFAR10(_data() / "cifar10")
    order = np.random.default_rng(0).permutation(50_000)
    labels = [int(source[index]["label"]) for index in order]
    of_class = {k: [i for i, label in zip(order, labels, strict=True) if label == k] for k in range(5)}
    return {source.classes[k]: (source[i]["image"] for i in found) for k, found in of_class.items()}


def lc25000() -> Images:
    """The three classes of LC25000, one image of each group of near-duplicates: 224 px or more."""
    groups = shipped_groups("lc25000_lung")
    first = {group: file for file, (_, group) in reversed([*groups.members.items()])}
    order = np.random.default_rng(0).permutation(list(first.values()))
    folder = _data() / "lc25000" / "lung_image_sets"
    of_class: dict[str, list[str]] = {}
    for file in order:
        of_class.setdefault(file.partition("/")[0], []).append(file)
    return {
        name: (np.asarray(Image.open(folder / file)) for file in files) for name, files in of_class.items()
    }


KINDS: dict[str, Callable[[], Images]] = {
    "five drawn shapes, 128 px": drawn_shapes,
    "five classes of CIFAR-10, 32 px": cifar10,
    "three classes of LC25000": lc25000,
}


def measure(images: Images, per_class: int, variant: str) -> dict[str, Any]:
    """Trains by scripts/train.py on a new folder, and tests; returns accuracy and seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = Path(scratch) / "train", Path(scratch) / "test"
        for folder, count in zip(folders, (per_class, TESTED // len(images)), strict=True):
            for name, stream in images.items():
                (folder / name).mkdir(parents=True)
                for number in range(count):
                    Image.fromarray(next(stream)).save(folder / name / f"{number:03d}.png")
        run = Path(scratch) / "run"
        config = f"--config=configs/image_folder.py:{variant}"
        command = [sys.executable, "scripts/train.py", config, f"--config.data.path={folders[0]}"]
        start = time.perf_counter()
        subprocess.run([*command, f"--workdir={run}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        network, files = jaxnets.load(run), sorted(folders[1].rglob("*.png"))
        assert isinstance(network, Predictor)
        predicted = [each.label for each in network.predict(files)]
        found = [label == file.parent.name for label, file in zip(predicted, files, strict=True)]
    return {"accuracy": float(np.mean(found)), "tested": len(found), "seconds": round(seconds, 1)}


def main() -> None:
    """Runs the missing rows; writes the file after each."""
    console.show()
    content = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"rows": []}
    done = {(row["images"], row["per_class"], row["variant"]) for row in content["rows"]}
    for name, make in KINDS.items():
        for per_class in PER_CLASS:
            for variant in VARIANTS:
                if (name, per_class, variant) in done:
                    continue
                row = {"images": name, "per_class": per_class, "variant": variant}
                row |= measure(make(), per_class, variant) | {"hardware": xla.hardware()}
                content["rows"].append(row)
                atomic_write(RESULTS, json.dumps(content, indent=1) + "\n")
                console.log_text(f"{name}, {per_class}, {variant}: {row['accuracy']:.1%}, {row['seconds']} s")


def rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns the rows of the table for the file in `folder`, results/."""
    path = folder / RESULTS.name
    content = json.loads(path.read_text()) if path.is_file() else {"rows": []}
    return [
        (
            row["images"],
            str(row["per_class"]),
            VARIANTS[row["variant"]],
            _accuracy(row),
            f"{row['seconds']:.0f}",
        )
        for row in content["rows"]
    ]


def _accuracy(row: dict[str, Any]) -> str:
    low, high = wilson_interval(round(row["accuracy"] * row["tested"]), row["tested"])
    return f"{100 * row['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    main()
