"""A baseline for the networks: logistic regression on colour histograms."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.cache import gather
from jaxnets.data.dataset import Dataset
from jaxnets.data.splits import sha256
from jaxnets.errors import ConfigError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.cross_validation import concatenate
from jaxnets.evaluation.predictions import ClassScores, Predictions
from jaxnets.experiment import environment
from jaxnets.experiment.data import open_dataset, with_cache
from jaxnets.experiment.leakage import measure_leakage, report_leakage
from jaxnets.experiment.resolve import load_config_or_demo
from jaxnets.io import atomic_write, require_folder
from jaxnets.runtime import console

LEVELS = 8
"""Histogram bins per channel."""
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Values of C, the inverse regularization strength; selected by validation accuracy."""
CHUNK = 256
RANDOM60, FOLDS = "random60", "5folds"
SPLITS: Mapping[str, list[dict[str, Any]]] = {
    RANDOM60: [{"data.split": "random", "data.fractions": (0.6, 0.2, 0.2)}],
    FOLDS: [{"data.split": "grouped", "data.folds": 5, "data.fold": fold} for fold in range(5)],
}
"""Overrides of each fit, as in configs/sweeps/lung_leakage.py: both train on 60 % of the images."""


def colour_baseline(
    spec: str, overrides: Mapping[str, Any], splits: Sequence[str], out: Path
) -> dict[str, Any]:
    """Fits and tests the baseline on a config's images for each split, and writes `out` as JSON.

    `splits` are values of data.split, `RANDOM60` or `FOLDS`, whose test images are all images. If test
    examples have near-duplicates, predictions are stored too (`predictions_path_of`). Raises ConfigError if
    the images are not in colour, and the errors of opening and splitting the data.
    """
    content: dict[str, Any] = {
        "features": f"joint histogram of {LEVELS} x {LEVELS} x {LEVELS} colours, square root of shares",
        "model": "multinomial logistic regression on standardised features, C chosen on validation",
        "splits": {},
    }
    require_folder(out.parent)
    histograms: np.ndarray | None = None
    for name in splits:
        fits: list[dict[str, Any]] = []
        tested: list[Predictions] = []
        for settings in SPLITS.get(name, [{"data.split": name}]):
            config = load_config_or_demo(spec, {**overrides, **settings})
            data = with_cache(config, open_dataset(config))
            if data.source.kind != "image" or data.shape[-1] != 3:
                raise ConfigError(f"the examples of {data.source.name} are not in colour")
            leakage = measure_leakage(data)
            report_leakage(config, data, leakage)
            if histograms is None:
                histograms = colour_histograms(data)
            with console.phase("fit") as phase:
                fitted = fit_logistic_regression(data, histograms, data.split.train, STRENGTHS)
                probabilities = fitted.model.predict_proba(histograms[data.split.test])
                tested.append(Predictions.of(data.source, data.split.test, probabilities, data.group_ids))
                phase.text = f"{name} split, test accuracy {100 * tested[-1].correct.mean():.1f} %"
            fits.append(
                {
                    "split_sha256": sha256(data.split.to_csv(data.source)),
                    "leakage": leakage.as_result(),
                    "C": fitted.strength,
                    "validation_accuracy": fitted.validation_accuracy,
                }
            )
            content |= {"data": config.data.name, "image_size": config.data.image_size}
        predictions = concatenate(tested)
        if predictions.has_near_duplicates:  # needed for comparisons by groups
            atomic_write(predictions_path_of(out, name), predictions.to_bytes())
        entry = results.test_entry(_scores(predictions), predictions)
        low, high = entry["interval"]
        console.log(
            "tested",
            f"{name} split, {len(predictions.label):,} images: {100 * entry['accuracy']:.1f} % "
            f"[{100 * low:.1f}, {100 * high:.1f}], {entry['interval_method']}",
        )
        content["splits"][name] = {"fits": fits, **entry}
    content["versions"] = environment.versions()
    atomic_write(out, json.dumps(content, indent=1) + "\n")
    console.log("saved", str(out))
    return content


def predictions_path_of(out: Path, split: str) -> Path:
    """Returns the path of the predictions for a split, next to `out`."""
    return out.with_name(f"{out.stem}-{split}.npz")


def colour_histograms(data: Dataset) -> np.ndarray:
    """Returns the square roots of colour frequencies of every image, float32 [N, LEVELS ** 3]."""
    rows = np.zeros((len(data.source), LEVELS**3), np.float32)
    for start in range(0, len(rows), CHUNK):
        indices = np.arange(start, min(start + CHUNK, len(rows)))
        images = gather(data.source, indices)["image"].astype(np.int64) * LEVELS // 256
        colours = (images[..., 0] * LEVELS + images[..., 1]) * LEVELS + images[..., 2]
        colours = colours.reshape(len(indices), -1)
        offset = np.arange(len(indices))[:, None] * LEVELS**3
        counts = np.bincount((colours + offset).ravel(), minlength=len(indices) * LEVELS**3)
        rows[indices] = np.sqrt(counts.reshape(len(indices), -1) / colours.shape[1])
    return rows


def _scores(predictions: Predictions) -> ClassScores:
    from sklearn.metrics import log_loss  # a second to import

    probabilities, labels = predictions.probabilities, predictions.label
    loss = log_loss(labels, probabilities, labels=np.arange(probabilities.shape[1]))
    return ClassScores.of(probabilities, labels, float(loss))


@dataclasses.dataclass(frozen=True)
class LogisticRegressionFit:
    """A fitted scikit-learn pipeline, its C, and its accuracy on the images that selected C."""

    model: Any
    strength: float
    validation_accuracy: float


def fit_logistic_regression(
    data: Dataset, features: np.ndarray, train: np.ndarray, strengths: Sequence[float]
) -> LogisticRegressionFit:
    """Fits multinomial logistic regressions on standardised features [N, D], and returns the best one.

    `train` has the indices of the training images, `strengths` values of C. Validation accuracy selects C,
    or training accuracy if there are no validation images; equal ones select the first value.
    """
    from sklearn.linear_model import LogisticRegression  # a second to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = data.source.labels
    selection = data.split.validation if len(data.split.validation) else train
    fits = []
    for strength in strengths:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        model.fit(features[train], labels[train])
        score = float(model.score(features[selection], labels[selection]))
        fits.append(LogisticRegressionFit(model, strength, score))
    return max(fits, key=lambda fit: fit.validation_accuracy)
