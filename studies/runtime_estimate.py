"""Estimates how long a run will take from earlier runs."""

import collections
import csv
import dataclasses
import datetime
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets.data import sources
from jaxnets.errors import JaxnetsError
from jaxnets.experiment import workdir
from jaxnets.experiment.cached_features import uses_cached_features
from jaxnets.experiment.data import split_source
from jaxnets.experiment.evaluator import median_speed
from jaxnets.experiment.run_directory import open_run
from jaxnets.experiment.sweep import saved_step
from jaxnets.training.callbacks.logs import METRICS

RECENT_LINES = 10
FIELDS_NOT_AFFECTING_SPEED = ("model.num_classes", "model.init")
START_SECONDS = 20.0
"""Seconds for imports, opening the data and compiling."""
EVALUATION_COST = 1 / 3
"""Evaluating an image relative to training on it: one forward pass, without the backward pass."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Training speed of one network at one image size on one machine, at one `time` (Unix time)."""

    network: Mapping[str, Any]
    image_size: int
    hardware: str
    images_per_second: float
    time: float
    features_seconds: float = 0.0
    """Seconds for computing the cached features of a frozen backbone; 0 without them."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The seconds that a run still needs, and a description of the measurement behind it."""

    seconds: float
    basis: str


def measurements(folders: Iterable[Path]) -> list[Measurement]:
    """Returns the measurements of all runs and results in `folders`; skips unreadable ones."""
    paths = (path.parent for folder in folders for path in folder.glob("*/config.json"))
    return [measured for path in paths if (measured := _measurement(path)) is not None]


def estimate(
    config: config_dict.ConfigDict, folder: Path, known: Sequence[Measurement], hardware: str | None
) -> Estimate | None:
    """Estimates the remaining time of the run in `folder`; None if its speed or data are unknown.

    Uses the newest measurement of this network and hardware at this image size, or else at another size,
    scaled by the number of pixels. With cached features only their computation scales with the pixels;
    it is added for a run that has not started.
    """
    size = config.data.image_size
    same = [m for m in known if m.hardware == hardware and m.network == _network(config)]
    exact = [m for m in same if m.image_size == size]
    examples = _subset_sizes(config, folder) if same else None
    if examples is None:
        return None
    newest = max(exact or same, key=lambda m: m.time)
    pixels = (size / newest.image_size) ** 2
    cached = uses_cached_features(config)
    speed = newest.images_per_second / (1 if cached else pixels)
    step = saved_step(folder)
    features = newest.features_seconds * pixels if cached and step is None else 0.0
    seconds = START_SECONDS + features + _remaining_images(config, examples, step or 0) / speed
    extrapolated = "" if exact else f", extrapolated from {newest.image_size} px"
    rounded = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
    return Estimate(seconds, f"{rounded} images/s{extrapolated}")


def _remaining_images(config: config_dict.ConfigDict, examples: Mapping[str, int], step: int) -> float:
    """Returns the remaining work at `step` in training images; `examples` are the subset sizes."""
    size = config.train.batch_size
    rounded = math.floor if config.train.drop_last else math.ceil
    per_epoch = rounded(examples["train"] / size)
    total = config_lib.steps(config, "train.", per_epoch) or 0
    every = config_lib.steps(config, "eval.every_", per_epoch) or per_epoch
    evaluations = (total - step) // every if every else 0
    evaluated = (evaluations + 1) * examples["validation"] + examples["test"]
    if config.eval.monitor_test:
        evaluated += evaluations * examples["test"]
    return max(total - step, 0) * size + EVALUATION_COST * evaluated


def hardware_here() -> str | None:
    """Describes this machine's devices, in a child process since JAX would reserve GPU memory."""
    program = "from jaxnets.runtime import xla; print(xla.hardware())"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return finished.stdout.strip() or None


def _subset_sizes(config: config_dict.ConfigDict, folder: Path) -> Mapping[str, int] | None:
    """Returns the examples by subset, from split.csv or else from the data; None without both."""
    split = folder / workdir.SPLIT
    try:
        if split.is_file():
            with split.open(newline="") as file:
                return collections.Counter(line["split"] for line in csv.DictReader(file))
        source = sources.open_source(config.data, config_lib.data_root(config))
        parts = split_source(config, source)[0].parts()
        return {name: len(part) for name, part in parts.items()}
    except (JaxnetsError, OSError, ValueError, KeyError, csv.Error):
        return None


def _measurement(folder: Path) -> Measurement | None:
    try:
        run = open_run(folder)
        config, result = run.config, run.result
        if result is not None:
            hardware, speed = result["hardware"], result["images_per_second"]
            features_seconds = result.get("features_seconds") or 0.0
            # The modification time would be that of the checkout.
            time = datetime.datetime.fromisoformat(result["finished"]).timestamp()
        else:
            hardware, features_seconds = run.manifest["hardware"], 0.0
            speed = median_speed(run.metrics(), last=RECENT_LINES)
            time = (folder / METRICS).stat().st_mtime
        if speed is None or not speed > 0:
            return None
        return Measurement(_network(config), config.data.image_size, hardware, speed, time, features_seconds)
    except (JaxnetsError, OSError, ValueError):
        return None


def _network(config: config_dict.ConfigDict) -> dict[str, Any]:
    """Returns the fields that determine the time per image, except the image size."""
    used = config_lib.used_fields(config)
    fields = {
        path: config_lib.get_field(used, path)
        for path in config_lib.FIELDS
        if path.startswith("model.") and path not in FIELDS_NOT_AFFECTING_SPEED
    }
    return fields | {
        "freeze_backbone": config.transfer.freeze_backbone,
        "cached_features": uses_cached_features(config),
    }
