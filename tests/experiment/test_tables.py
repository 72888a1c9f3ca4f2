"""Training on a table of images whose classes have different frequencies."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import jaxnets
from jaxnets.commands import export, predict
from jaxnets.commands.evaluate import evaluate
from jaxnets.data import sources
from jaxnets.errors import ConfigError
from jaxnets.evaluation.predictions import load_predictions

SIZES = {"common": 48, "rare": 16}


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Overrides of image_folder:smoke: a table of 64 images of 16 patients, 3:1 in each split."""
    folder, generator = tmp_path_factory.mktemp("table"), np.random.default_rng(0)
    rows = ["path,label,group,split"]
    for label, size in SIZES.items():
        for number in range(size):
            pixels = generator.integers(0, 200, (16, 16, 3), np.uint8) + 50 * (label == "rare")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{label}{number}.png")
            patient, fourth = f"{label}{number // 4}", number // 4 % 4
            split = ("train", "train", "validation", "test")[fourth]
            rows.append(f"{label}{number}.png,{label},{patient},{split}")
    (folder / "images.csv").write_text("\n".join(rows))
    return {
        **{"data.name": "table", "data.path": str(folder / "images.csv"), "data.root": str(folder / "root")},
        **{"data.split": "official", "data.image_size": 16, "model.name": "lenet5", "model.kernel_size": 3},
        **{"log.tensorboard": False, "optimizer.learning_rate": 0.005},
    }


def test_balanced_class_weights_with_random_crops(
    repository: Path, overrides: dict[str, Any], tmp_path: Path
) -> None:
    config = f"{repository / 'configs' / 'image_folder.py'}:smoke"
    more = {"train.class_weights": ("balanced",), "augment.random_resized_crop": 0.5}
    result = jaxnets.train(config, {**overrides, **more}, workdir=tmp_path / "run")
    assert (result["data"], result["split"], result["test_examples"]) == ("table", "official", 16)
    assert result["leakage"] == {"test": 0.0, "validation": 0.0}
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["class_weights"] == [
        "balanced"
    ]
    found = load_predictions(tmp_path / "run" / "predictions" / "test.npz")
    assert len(np.unique(found.group)) == 4
    losses = -np.log(found.probabilities[np.arange(16), found.label])
    weights = np.array([32 / (2 * 24), 32 / (2 * 8)])[found.label]  # of 24 and 8 training images
    assert result["tests"]["clean"]["loss"] == pytest.approx(
        (weights * losses).sum() / weights.sum(), rel=1e-5
    )
    assert evaluate(tmp_path / "run")["loss"] == pytest.approx(result["tests"]["clean"]["loss"], rel=1e-5)


def test_balanced_sampling(repository: Path, overrides: dict[str, Any], tmp_path: Path) -> None:
    config = f"{repository / 'configs' / 'image_folder.py'}:smoke"
    more = {"train.balanced_sampling": True, "early_stopping.patience": 3}  # there are validation rows
    result = jaxnets.train(config, {**overrides, **more}, workdir=tmp_path / "run")
    assert result["complete"]
    assert result["validation_accuracy"] is not None
    with pytest.raises(ConfigError, match=r"balanced_sampling: True -> False"):
        jaxnets.train(config, overrides, workdir=tmp_path / "run")


def test_a_table_of_medical_images_divided_at_random(
    repository: Path, overrides: dict[str, Any], tmp_path: Path, read_page, capsys: pytest.CaptureFixture[str]
) -> None:
    run, config = tmp_path / "run", f"{repository / 'configs' / 'image_folder.py'}:smoke"
    fields = {**overrides, "data.split": "random", "data.medical": True}
    result = jaxnets.train(config, fields, workdir=run)
    assert result["given_groups"] is True
    evaluate(run)
    words = read_page((run / "report" / "index.html").read_text()).words
    card = (export.export(run, tmp_path / "card") / "README.md").read_text()
    for text in (words, card):
        assert sources.DISCLAIMER in text
        assert "% of the test images have images of their group in training. " in text
    assert re.search(r"resamples the \d+ groups, not images", words)
    for text in (words, card):
        assert "near-duplicate" not in text
    capsys.readouterr()
    predict.predict_files(str(tmp_path / "card"), [str(Path(overrides["data.path"]).parent / "rare0.png")])
    assert capsys.readouterr().out.endswith(f"note      {sources.DISCLAIMER}\n")
