"""docs/lenet_and_alexnet.md says what stands under results/."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import made_results
import numpy as np
import pytest

from jaxnets.evaluation.statistics import wilson_interval
from studies.pages import lenet_and_alexnet


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return lenet_and_alexnet


def test_the_page_is_what_the_results_make(maker: ModuleType, repository: Path) -> None:
    made = maker.page(repository / "results")
    assert made == (repository / "docs" / maker.PAGE).read_text(), (
        "python -m studies.pages.lenet_and_alexnet makes it"
    )
    drawn = maker.drawn_rates(repository / "results")
    assert maker.curves.is_current(repository / "docs" / maker.PICTURE, drawn)


def test_runs_that_are_not_there_are_told(maker: ModuleType, tmp_path: Path) -> None:
    made = maker.page(tmp_path)
    assert maker.PLACEHOLDER.search(made) is None
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


def _keep(folder: Path, repository: Path, name: str, entry: str, **accuracies: float) -> None:
    """A run as scripts/reproduce.py keeps it, made of a kept one."""
    like = json.loads((repository / "results" / "lenet_mnist-adam-s0" / "result.json").read_text())
    tests = {test: _tested(accuracy) for test, accuracy in accuracies.items()}
    run = {"entry": entry, "model": "alexnet", "data": "cifar10", "image_size": 32, "tests": tests}
    run |= {"name": f"alexnet_cifar10:{name}", "test_accuracy": accuracies["clean"], "step": 7820}
    run |= {"test_interval": tests["clean"]["interval"]}
    run |= {"images_per_second": 100.0, "overrides": []}
    target = folder / f"alexnet_cifar10-{name}-s0"
    target.mkdir()
    (target / "result.json").write_text(json.dumps({**like, **run}))
    (target / "config.json").write_text(made_results.config_of({**like, **run}))


def test_what_an_accident_is_worth(maker: ModuleType, repository: Path, tmp_path: Path) -> None:
    _keep(tmp_path, repository, "adam", "C/alexnet", clean=0.7, augmented=0.685)
    both = {"augmented": 0.8, "dropout": 0.81, "augmented_dropout": 0.785}
    _keep(tmp_path, repository, "sgd", "E/alexnet", clean=0.82, **both)
    made = maker.page(tmp_path)
    assert "| AlexNet, report C | augmented images | 68.50 % [67.58, 69.40], 1 seed | 62.75 %" in made
    assert "| AlexNet, report C | 70.00 % | 1.50 |  |  |" in made
    assert "| AlexNet, report E | 82.00 % | 2.00 | 1.00 | 3.50 |" in made
    assert "3.50 points are lost; by that its 78.81 % stands for some 82.3 % on clean" in made
    assert "| AlexNet | CIFAR-10, 10 epochs | 70.00 % |" in made
    assert "| 500 s, 2 cores" in made
    assert "CIFAR-10's 1,000 each" in made
    assert "| cat | not run | not run | 70.0 % |" in made
