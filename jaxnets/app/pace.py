"""How long a run will take, judged by the runs before it."""

import csv
import dataclasses
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from jaxnets import config as recipes
from jaxnets.app import workdir
from jaxnets.data import catalog
from jaxnets.data.splits import make_split
from jaxnets.errors import JaxnetsError
from jaxnets.evaluation import result as results
from jaxnets.training.checkpoint import Checkpoints
from jaxnets.training.hooks.writers import METRICS

RECENT_LINES = 10
SPEED_NEUTRAL = ("model.num_classes", "model.init")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Training images a second of one network at one size on one machine; `time` it was written."""

    network: Mapping[str, Any]
    image_size: int
    hardware: str
    images_per_second: float
    time: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds of training that a run still needs, and in words what they were judged by."""

    seconds: float
    basis: str


def measurements(folders: Iterable[Path]) -> list[Measurement]:
    """What the run and result folders in `folders` tell; one that cannot be read tells nothing."""
    found = [
        _measurement(path.parent) for folder in folders for path in folder.glob("*/config.json")
    ]
    return [measurement for measurement in found if measurement is not None]


def estimate(
    config: config_dict.ConfigDict, folder: Path, known: Sequence[Measurement], hardware: str | None
) -> Estimate | None:
    """What the run in `folder` still needs; None where nothing is known of its speed or its data.

    The newest measurement of this network at this size on this hardware counts, or else the newest at
    another size, by its number of pixels. Start, compilation and evaluation are not in it.
    """
    size = config.data.image_size
    same = [m for m in known if m.hardware == hardware and m.network == _network(config)]
    exact = [m for m in same if m.image_size == size]
    if not same:
        return None
    newest = max(exact or same, key=lambda m: m.time)
    speed = newest.images_per_second * (newest.image_size / size) ** 2
    examples = examples_left(config, folder)
    if examples is None:
        return None
    guess = "" if exact else f", guessed from {newest.image_size} px"
    rounded = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
    return Estimate(examples / speed, f"{rounded} images/s{guess}")


def examples_left(config: config_dict.ConfigDict, folder: Path) -> int | None:
    """Training examples that the run in `folder` has not seen at its newest checkpoint.

    None where the data cannot be opened.
    """
    examples = _train_examples(config, folder)
    if examples is None:
        return None
    size = config.train.batch_size
    rounded = math.floor if config.train.drop_last else math.ceil
    total = recipes.steps(
        config, "train.", batch_size=size, steps_per_epoch=rounded(examples / size)
    )
    return max((total or 0) - (saved_step(folder) or 0), 0) * size


def saved_step(folder: Path) -> int | None:
    """The step of the newest checkpoint of a run directory; None before the first."""
    steps = Checkpoints(folder / workdir.CHECKPOINTS, keep=1).steps()
    return steps[-1] if steps else None


def hardware_here() -> str | None:
    """The devices in words, asked of another process: one that looks at a GPU also takes its memory."""
    program = "from jaxnets.app import environment; print(environment.hardware())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.stdout.strip() or None


def _train_examples(config: config_dict.ConfigDict, folder: Path) -> int | None:
    split = folder / workdir.SPLIT
    try:
        if split.is_file():
            with split.open(newline="") as file:
                return sum(line["split"] == "train" for line in csv.DictReader(file))
        source = catalog.open_source(config.data, recipes.data_root(config))
        data = config.data
        made = make_split(
            source,
            data.split,
            fractions=data.fractions,
            validation_fraction=data.validation_fraction,
            seed=data.split_seed,
        )
        return len(made.train)
    except (JaxnetsError, OSError, KeyError, csv.Error):
        return None


def _measurement(folder: Path) -> Measurement | None:
    try:
        config = workdir.read_config(folder)
        result = results.read(folder)
        if result is not None:
            path = folder / results.RESULT
            hardware, speed = result["hardware"], float(result["images_per_second"])
        else:
            path = folder / METRICS
            hardware, speed = workdir.read_manifest(folder)["hardware"], _recent_speed(path)
        if not speed > 0:
            return None
        size = config.data.image_size
        return Measurement(_network(config), size, hardware, speed, path.stat().st_mtime)
    except (JaxnetsError, OSError, ValueError, KeyError, TypeError):
        return None


def _recent_speed(path: Path) -> float:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    speeds = [line["images_per_second"] for line in lines if line["split"] == "train"]
    return statistics.median(speeds[-RECENT_LINES:])


def _network(config: config_dict.ConfigDict) -> dict[str, Any]:
    fields = [path for path in recipes.FIELDS if path.startswith("model.")]
    return {path: recipes.get_field(config, path) for path in fields if path not in SPEED_NEUTRAL}
