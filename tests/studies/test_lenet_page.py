"""docs/lenet_and_alexnet.md matches the stored results."""

import json
from pathlib import Path
from typing import Any

import made_results
import numpy as np

from jaxnets.evaluation.statistics import wilson_interval
from studies.pages import lenet_and_alexnet


def test_page_is_up_to_date(repository: Path) -> None:
    text = lenet_and_alexnet.page(repository / "results")
    assert text == (repository / "docs" / lenet_and_alexnet.PAGE).read_text(), (
        "run python -m studies.pages.lenet_and_alexnet"
    )
    drawn = lenet_and_alexnet.drawn_rates(repository / "results")
    assert lenet_and_alexnet.curves.is_current(repository / "docs" / lenet_and_alexnet.PICTURE, drawn)


def test_missing_runs_are_marked_not_run(tmp_path: Path) -> None:
    text = lenet_and_alexnet.page(tmp_path)
    assert lenet_and_alexnet.PLACEHOLDER.search(text) is None
    assert "| LeNet-5, report C | clean images | not run | 98.66 % |" in text
    assert "| none | not run |  |  | 44,426 | 281,640 |" in text
    assert "| learning_rate 0.004 | not run |  |" in text
    assert "| 0.001 | not run | not run | not run | not run |" in text


def _test_entry(accuracy: float) -> dict[str, Any]:
    correct = round(10_000 * accuracy)
    diagonal = np.eye(10, dtype=int) * (correct // 10)
    wrong = np.roll(np.eye(10, dtype=int), 1, axis=1) * (1_000 - correct // 10)
    interval, confusion = list(wilson_interval(correct, 10_000)), (diagonal + wrong).tolist()
    return {
        "accuracy": accuracy,
        "interval": interval,
        "interval_method": "wilson",
        "loss": 0.5,
        "examples": 10_000,
        "confusion": confusion,
    }


def _write_result(folder: Path, repository: Path, name: str, entry: str, **accuracies: float) -> None:
    """A run as scripts/reproduce.py keeps it, text of a kept one."""
    stored = json.loads((repository / "results" / "lenet_mnist-adam-s0" / "result.json").read_text())
    tests = {test: _test_entry(accuracy) for test, accuracy in accuracies.items()}
    run = {"entry": entry, "model": "alexnet", "data": "cifar10", "image_size": 32, "tests": tests}
    run |= {"name": f"alexnet_cifar10:{name}", "test_accuracy": accuracies["clean"], "step": 7820}
    run |= {"test_interval": tests["clean"]["interval"]}
    run |= {"images_per_second": 100.0, "overrides": []}
    target = folder / f"alexnet_cifar10-{name}-s0"
    target.mkdir()
    (target / "result.json").write_text(json.dumps({**stored, **run}))
    (target / "config.json").write_text(made_results.config_json({**stored, **run}))


def test_cost_of_augmentation_and_dropout_in_the_test(repository: Path, tmp_path: Path) -> None:
    _write_result(tmp_path, repository, "adam", "C/alexnet", clean=0.7, augmented=0.685)
    both = {"augmented": 0.8, "dropout": 0.81, "augmented_dropout": 0.785}
    _write_result(tmp_path, repository, "sgd", "E/alexnet", clean=0.82, **both)
    text = lenet_and_alexnet.page(tmp_path)
    assert "| AlexNet, report C | augmented images | 68.50 % [67.58, 69.40], 1 seed | 62.75 %" in text
    assert "| AlexNet, report C | 70.00 % | 1.50 |  |  |" in text
    assert "| AlexNet, report E | 82.00 % | 2.00 | 1.00 | 3.50 |" in text
    assert "3.50 points are lost; by that its 78.81 % stands for some 82.3 % on clean" in text
    assert "| AlexNet | CIFAR-10, 10 epochs | 70.00 % |" in text
    assert "| 500 s, 2 cores" in text
    assert "CIFAR-10's 1,000 each" in text
    assert "| cat | not run | not run | 70.0 % |" in text
