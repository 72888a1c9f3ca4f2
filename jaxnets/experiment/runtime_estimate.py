"""How long a run will take, judged by the runs before it."""

import collections
import csv
import dataclasses
import datetime
import math
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets.data.sources import registry
from jaxnets.errors import JaxnetsError
from jaxnets.experiment import workdir
from jaxnets.experiment.cached_features import uses_cached_features
from jaxnets.experiment.data import divide
from jaxnets.experiment.run_directory import open_run
from jaxnets.training.callbacks.writers import METRICS, read_lines
from jaxnets.training.checkpoint import Checkpoints

RECENT_LINES = 10
FIELDS_NOT_AFFECTING_SPEED = ("model.num_classes", "model.init")
START_SECONDS = 20.0
"""For imports, opening the data and compiling."""
EVALUATION_SHARE = 1 / 3
"""What an image costs in evaluation, beside training: one pass of three."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Training images a second of one network at one size on one machine, and when that was (Unix time)."""

    network: Mapping[str, Any]
    image_size: int
    hardware: str
    images_per_second: float
    time: float
    features_seconds: float = 0.0
    """What a frozen body took, once, for the features that were trained on; 0 where none were kept."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds that a run still needs, and in words what they were judged by."""

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
    another size, by its number of pixels. Of kept features the head's speed does not follow the pixels, and
    the body's one pass is added to a run that has not begun.
    """
    size = config.data.image_size
    same = [m for m in known if m.hardware == hardware and m.network == _network(config)]
    exact = [m for m in same if m.image_size == size]
    if not same:
        return None
    newest = max(exact or same, key=lambda m: m.time)
    pixels = (size / newest.image_size) ** 2
    kept = uses_cached_features(config)
    speed = newest.images_per_second / (1 if kept else pixels)
    sizes = _part_sizes(config, folder)
    if sizes is None:
        return None
    done = saved_step(folder)
    passes = images_left(config, sizes, done or 0)
    before = newest.features_seconds * pixels if kept and done is None else 0.0
    guess = "" if exact else f", guessed from {newest.image_size} px"
    rounded = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
    return Estimate(START_SECONDS + before + passes / speed, f"{rounded} images/s{guess}")


def images_left(config: config_dict.ConfigDict, sizes: Mapping[str, int], step: int) -> float:
    """What is left to do at `step`, in training images; evaluated ones count for their share.

    `sizes` has the number of "train", "validation" and "test" examples.
    """
    size = config.train.batch_size
    rounded = math.floor if config.train.drop_last else math.ceil
    per_epoch = rounded(sizes["train"] / size)
    total = config_lib.steps(config, "train.", per_epoch) or 0
    every = config_lib.steps(config, "eval.every_", per_epoch) or per_epoch
    evaluations = (total - step) // every if every else 0
    evaluated = (evaluations + 1) * sizes["validation"] + sizes["test"]
    if config.eval.monitor_test:
        evaluated += evaluations * sizes["test"]
    return max(total - step, 0) * size + EVALUATION_SHARE * evaluated


def saved_step(folder: Path) -> int | None:
    """The step of the newest checkpoint of a run directory; None before the first."""
    steps = Checkpoints(folder / workdir.CHECKPOINTS, keep=1).steps()
    return steps[-1] if steps else None


def hardware_here() -> str | None:
    """The devices in words, asked of another process: one that looks at a GPU also takes its memory."""
    program = "from jaxnets.runtime import hardware; print(hardware.description())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.stdout.strip() or None


def _part_sizes(config: config_dict.ConfigDict, folder: Path) -> Mapping[str, int] | None:
    """Examples by part of the split, as the run's folder has it or else the data; None without either."""
    split = folder / workdir.SPLIT
    try:
        if split.is_file():
            with split.open(newline="") as file:
                return collections.Counter(line["split"] for line in csv.DictReader(file))
        source = registry.open_source(config.data, config_lib.data_root(config))
        made, _ = divide(config, source)
        return {name: len(part) for name, part in made.parts().items()}
    except (JaxnetsError, OSError, ValueError, KeyError, csv.Error):
        return None


def median_speed(metrics: bytes, *, last: int = 0) -> float | None:
    """Images per second in training by a metrics.jsonl: the median of its `last` lines, of all with 0.

    None where no line of training can be used.

    Not the run's mean: of hours in which the machine did other work it would say nothing.
    """
    lines = [line for line in read_lines(metrics) if line["split"] == "train"]
    speeds = [line["images_per_second"] for line in lines if "images_per_second" in line]
    return statistics.median(speeds[-last:]) if speeds else None


def _measurement(folder: Path) -> Measurement | None:
    try:
        run = open_run(folder)
        config, result = run.config, run.result
        if result is not None:
            hardware, speed = result["hardware"], result["images_per_second"]
            before = result.get("features_seconds") or 0.0
            # Not the file's own time: a clone's files are all of the day it was made.
            time = datetime.datetime.fromisoformat(result["finished"]).timestamp()
        else:
            hardware, before = run.manifest["hardware"], 0.0
            speed = median_speed(run.metrics(), last=RECENT_LINES)
            time = (folder / METRICS).stat().st_mtime
        if speed is None or not speed > 0:
            return None
        return Measurement(_network(config), config.data.image_size, hardware, speed, time, before)
    except (JaxnetsError, OSError, ValueError):
        return None


def _network(config: config_dict.ConfigDict) -> dict[str, Any]:
    """What decides how long a step takes for an image of one size."""
    fields = [path for path in config_lib.FIELDS if path.startswith("model.")]
    used = config_lib.used_fields(config)
    message = {
        path: config_lib.get_field(used, path)
        for path in fields
        if path not in FIELDS_NOT_AFFECTING_SPEED
    }
    return message | {
        "freeze_backbone": config.transfer.freeze_backbone,
        "kept features": uses_cached_features(config),
    }
