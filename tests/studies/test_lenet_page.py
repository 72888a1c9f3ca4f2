"""docs/lenet_and_alexnet.md is generated from results/."""

import json
from pathlib import Path
from typing import Any

import made_results
import numpy as np

from jaxnets.evaluation.statistics import wilson_interval
from studies.pages import curves, lenet_and_alexnet


def test_the_page_is_up_to_date(repository: Path) -> None:
    made = lenet_and_alexnet.page(repository / "results")
    assert made == (repository / "docs" / lenet_and_alexnet.PAGE).read_text(), (
        "run python -m studies.pages.lenet_and_alexnet"
    )
    confusion = lenet_and_alexnet.confusion_csv(repository / "results")
    assert confusion == (repository / "docs" / lenet_and_alexnet.CONFUSION).read_text()
    drawn = lenet_and_alexnet.drawn_rates(repository / "results")
    assert curves.is_current(repository / "docs" / lenet_and_alexnet.PICTURE, drawn)


def test_missing_runs_are_marked(tmp_path: Path) -> None:
    made = lenet_and_alexnet.page(tmp_path)
    assert lenet_and_alexnet.PLACEHOLDER.search(made) is None
    assert "| LeNet-5, report C | clean images | not run | 98.66 % |" in made
    assert "| none | not run |  |  | 44,426 | 281,640 |" in made
    assert "| learning_rate 0.004 | not run |  |" in made
    assert "| 0.001 | not run | not run | not run | not run |" in made


def _tested(accuracy: float) -> dict[str, Any]:
    correct = round(10_000 * accuracy)
    right = np.eye(10, dtype=int) * (correct // 10)
    wrong = np.roll(np.eye(10, dtype=int), 1, axis=1) * (1_000 - correct // 10)
    interval, confusion = list(wilson_interval(correct, 10_000)), (right + wrong).tolist()
    return {
        "accuracy": accuracy,
        "interval": interval,
        "interval_method": "wilson",
        "loss": 0.5,
        "examples": 10_000,
        "confusion": confusion,
    }


def _write_result(folder: Path, repository: Path, name: str, entry: str, **accuracies: float) -> None:
    """Writes a result made from a stored one."""
    like = json.loads((repository / "results" / "lenet_mnist-adam-s0" / "result.json").read_text())
    tests = {test: _tested(accuracy) for test, accuracy in accuracies.items()}
    run = {"entry": entry, "model": "alexnet", "data": "cifar10", "image_size": 32, "tests": tests}
    run |= {"name": f"alexnet_cifar10:{name}", "test_accuracy": accuracies["clean"], "step": 7820}
    run |= {"test_interval": tests["clean"]["interval"]}
    run |= {"images_per_second": 100.0, "overrides": []}
    target = folder / f"alexnet_cifar10-{name}-s0"
    result = {**like, **run}
    made_results.write_files(
        target, {"result.json": json.dumps(result), "config.json": made_results.config_json(result)}
    )


def test_the_cost_of_test_conditions(repository: Path, tmp_path: Path) -> None:
    _write_result(tmp_path, repository, "adam", "C/alexnet", clean=0.7, augmented=0.685)
    both = {"augmented": 0.8, "dropout": 0.81, "augmented_dropout": 0.785}
    _write_result(tmp_path, repository, "sgd", "E/alexnet", clean=0.82, **both)
    made = lenet_and_alexnet.page(tmp_path)
    assert "| AlexNet, report C | augmented images | 68.50 % [67.58, 69.40], 1 seed | 62.75 %" in made
    assert "| AlexNet, report C | 70.00 % | 1.50 |  |  |" in made
    assert "| AlexNet, report E | 82.00 % | 2.00 | 1.00 | 3.50 |" in made
    assert "they cost 3.50 points, so report E's 78.81 % corresponds to about 82.3 % on clean" in made
    assert "| AlexNet, CIFAR-10, 10 epochs | 70.00 % |" in made
    assert "| 500 s, 2 cores" in made
    assert "and 1,000 in CIFAR-10" in made
    assert "| cat | not run | not run | 70.0 % |" in made
