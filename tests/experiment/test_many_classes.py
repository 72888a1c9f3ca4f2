"""Folders with thousands of classes: result size and test cost do not grow quadratically."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxnets
from jaxnets.evaluation.predictions import load_predictions, predictions_name
from jaxnets.evaluation.result import confusion_matrix

IMAGES = 5
"""Images per class."""
OVERRIDES = {
    **{"model.name": "lenet5", "model.kernel_size": 3, "data.image_size": 16},
    **{"train.steps": 3, "log.tensorboard": False, "data.fractions": (0.6, 0.2, 0.2)},
}


def _draw(folder: Path, classes: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(classes):
        (folder / f"{number:04}").mkdir(parents=True)
        for image in range(IMAGES):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:04}" / f"{image}.png")


def test_a_large_confusion_matrix_is_stored_sparsely(repository: Path, tmp_path: Path) -> None:
    classes = 130
    _draw(tmp_path / "images", classes)
    own = {"data.path": str(tmp_path / "images"), "data.root": str(tmp_path)}
    spec = f"{repository / 'configs' / 'image_folder.py'}:smoke"
    result = jaxnets.train(spec, {**OVERRIDES, **own}, workdir=tmp_path / "run")
    stored = result["tests"]["clean"]["confusion"]
    assert isinstance(stored, dict)
    assert stored["classes"] == classes
    matrix = confusion_matrix(result["tests"]["clean"])
    predictions = load_predictions(tmp_path / "run" / predictions_name())
    expected = np.zeros((classes, classes), int)
    np.add.at(expected, (predictions.label, predictions.predicted), 1)
    np.testing.assert_array_equal(matrix, expected)
    assert (tmp_path / "run" / "result.json").stat().st_size < 30_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_five_thousand_classes(repository: Path, tmp_path: Path) -> None:
    _draw(tmp_path / "images", 5_000)
    command = [
        *(sys.executable, "scripts/train.py", "--config=configs/image_folder.py:smoke"),
        *(f"--config.{name}={value}" for name, value in OVERRIDES.items()),
        *(f"--config.data.path={tmp_path / 'images'}", f"--config.data.root={tmp_path}"),
        f"--workdir={tmp_path / 'run'}",
    ]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    size = (tmp_path / "run" / "result.json").stat().st_size
    (seconds,) = re.findall(r"^evaluate  5,000 test examples  ([\d.]+) s", done.stdout, re.M)
    print(f"\n5,000 classes: result.json {size:,} bytes, test {seconds} s, peak {peak:.2f} GiB")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert confusion_matrix(result["tests"]["clean"]).sum() == 5_000
    assert size < 500_000
    assert float(seconds) < 30
    assert peak < 2
