"""Networks on CIFAR-10's official split, and their accuracy on test images like training images."""

import json
from pathlib import Path

import numpy as np

from jaxnets import models
from jaxnets.data.groups import shipped_groups
from jaxnets.evaluation.predictions import predictions_name, read_predictions
from jaxnets.evaluation.statistics import wilson_interval
from jaxnets.experiment.run_directory import read_result, read_verified
from jaxnets.experiment.workdir import CONFIG

RUNS = (
    "efficientnet_cifar10-224px-imagenet-s0",
    "alexnet_cifar10-adam-s0",
    "alexnet_cifar10-sgd-s0",
    "lenet_questions-cifar10-s0",
)
HEADS = (
    *("network", "test accuracy [95 %]", "images with a near-duplicate in the other 50,000", "without"),
    *("minutes", "run"),
)
TRAIN, TEST = "data_batch_", "test_batch"
"""How the names of CIFAR-10's images begin."""


def rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns a row per run; the accuracies on two kinds of images need stored predictions."""
    leaking, found = _leaking(), []
    for name in RUNS:
        result, stored = read_result(folder / name), read_verified(folder / name, predictions_name())
        if result is None:
            continue
        low, high = (100 * end for end in result["test_interval"])
        divided = ["", ""]
        if stored is not None:
            predictions = read_predictions(stored, folder / name / predictions_name())
            is_right = predictions.probabilities.argmax(1) == predictions.label
            is_leaking = np.isin(predictions.files, leaking)
            divided = [_accuracy(is_right[is_leaking]), _accuracy(is_right[~is_leaking])]
        seconds = result["seconds"] + (result.get("features_seconds") or 0)
        config = json.loads((folder / name / CONFIG).read_text())
        optimizer = config["optimizer"]["name"].replace("adam", "Adam").replace("sgd", "SGD")
        pretrained = "ImageNet weights, new head" if result["weights"] else "from scratch"
        how = f"{pretrained}, {optimizer}, {result['epochs']:g} epochs"
        found.append(
            (
                f"{models.entry(result['model']).title}, {how}",
                f"{100 * result['test_accuracy']:.1f} % [{low:.1f}, {high:.1f}]",
                *divided,
                f"{seconds / 60:.0f}",
                f"`{name}`",
            )
        )
    return found


def _leaking() -> list[str]:
    """Returns the test images whose group has a training image."""
    members = shipped_groups("cifar10").members
    trained = {group for file, (_, group) in members.items() if file.startswith(TRAIN)}
    return [file for file, (_, group) in members.items() if file.startswith(TEST) and group in trained]


def _accuracy(is_right: np.ndarray) -> str:
    low, high = (100 * end for end in wilson_interval(int(is_right.sum()), len(is_right)))
    return f"{100 * is_right.mean():.1f} % [{low:.1f}, {high:.1f}] of {len(is_right):,}"
