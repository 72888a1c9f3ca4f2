"""Test-time augmentation in predictions and in evaluation."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import jaxnets
from jaxnets.commands import predict
from jaxnets.commands.evaluate import evaluate
from jaxnets.errors import ConfigError
from jaxnets.evaluation.predictions import load_predictions
from jaxnets.evaluation.turns import TURNS, turn
from jaxnets.experiment.data import open_dataset
from jaxnets.experiment.predictor import Predictor
from jaxnets.experiment.run_directory import open_run


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


def test_predictions_are_means_over_turns(trained: Path, images: np.ndarray) -> None:
    plain, averaging = (jaxnets.load(trained, test_time_augmentation=on) for on in (False, True))
    expected = np.mean([plain.probabilities(turn(images, number)) for number in range(TURNS)], axis=0)
    found = averaging.probabilities(images)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(plain.probabilities(images, test_time_augmentation=True), found)
    assert np.abs(found - plain.probabilities(images)).max() > 1e-5
    np.testing.assert_allclose(averaging.probabilities(turn(images, 6)), found, rtol=1e-5)


def test_predict_averages_with_the_option(
    calibrated: Path, images: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, table = tmp_path / "image.png", tmp_path / "table.json"
    Image.fromarray(images[0]).save(file)
    predict.predict_files(str(calibrated), [str(file)], json_path=str(table), test_time_augmentation=True)
    (row,) = json.loads(table.read_text())
    (expected,) = jaxnets.load(calibrated, test_time_augmentation=True).predict(file)
    assert row["confidence"] == pytest.approx(expected.confidence, rel=1e-6)
    assert "the temperature was fitted without test-time augmentation" in capsys.readouterr().out


def test_evaluation_reports_both_results(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, predictors = tmp_path / "run", []

    class Counted(Predictor):
        def __init__(self, *arguments: Any, **options: Any):
            super().__init__(*arguments, **options)
            predictors.append(self)

    monkeypatch.setattr("jaxnets.commands.evaluate.Predictor", Counted)
    shutil.copytree(trained, run)
    stored = (run / "predictions" / "test.npz").read_bytes()
    measured = evaluate(run, turns=True)
    assert len(predictors) == 1  # for the averages and the report
    assert load_predictions(run / "predictions" / "test.npz").to_bytes() == stored
    data = open_dataset(open_run(run).config)
    test = data.split.test
    pixels = np.stack([data.source[int(index)]["image"] for index in test])
    probabilities = jaxnets.load(run, test_time_augmentation=True, calibrated=False).probabilities(pixels)
    averaged = measured["test_time_augmentation"]
    assert averaged["accuracy"] == np.mean(probabilities.argmax(axis=1) == data.source.labels[test])
    assert averaged["difference"] == pytest.approx(averaged["accuracy"] - measured["accuracy"])
    loss = -np.log(probabilities[np.arange(len(test)), data.source.labels[test]]).mean()
    assert averaged["loss"] == pytest.approx(loss, rel=1e-4)
    assert json.loads((run / "report" / "metrics.json").read_text())["test_time_augmentation"] == averaged
    assert "mean over 8 flips and rotations of each image" in capsys.readouterr().out
    assert "mean over the eight flips and rotations" in (run / "report" / "index.html").read_text()


@pytest.mark.parametrize("options", [{"coverage": 0.9}, {"ood": True}])
def test_calibrated_sets_and_scores_exclude_turns(trained: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is calibrated without --test_time_augmentation: leave out one"):
        jaxnets.load(trained, test_time_augmentation=True, **options)
