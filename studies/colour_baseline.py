"""A baseline for the networks: logistic regression on colour histograms."""

import dataclasses
import json
import statistics
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
from jaxnets.experiment.leakage import Leakage, measure_leakage, report_leakage
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
        fitted: list[_Fit] = []
        leaks: list[Leakage] = []
        for settings in SPLITS.get(name, [{"data.split": name}]):
            config = load_config_or_demo(spec, {**overrides, **settings})
            data = with_cache(config, open_dataset(config))
            if data.source.kind != "image" or data.shape[-1] != 3:
                raise ConfigError(f"the examples of {data.source.name} are not in colour")
            leaks.append(measure_leakage(data))
            report_leakage(config, data, leaks[-1])
            if histograms is None:
                histograms = colour_histograms(data)
            with console.phase("fit") as phase:
                fitted.append(_fit(data, histograms))
                accuracy = fitted[-1].predictions.correct.mean()
                phase.text = f"{name} split, test accuracy {100 * accuracy:.1f} %"
            content |= {"data": config.data.name, "image_size": config.data.image_size}
        predictions = concatenate([fit.predictions for fit in fitted])
        if predictions.has_near_duplicates:  # needed for comparisons by groups
            atomic_write(predictions_path_of(out, name), predictions.to_bytes())
        entry = results.test_entry(_scores(predictions), predictions)
        (low, high), strengths = entry["interval"], [fit.strength for fit in fitted]
        console.log(
            "tested",
            f"{name} split, {len(predictions.label):,} images: {100 * entry['accuracy']:.1f} % "
            f"[{100 * low:.1f}, {100 * high:.1f}], {entry['interval_method']}",
        )
        digests = "".join(fit.split_sha256 for fit in fitted)
        content["splits"][name] = {
            "split_sha256": digests if len(fitted) == 1 else sha256(digests),
            "leakage": leaks[-1].as_result(),
            "C": strengths[0] if len(fitted) == 1 else strengths,
            "validation_accuracy": statistics.fmean(fit.validation_accuracy for fit in fitted),
            **entry,
        }
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
class _Fit:
    predictions: Predictions
    strength: float
    validation_accuracy: float
    split_sha256: str


def _fit(data: Dataset, histograms: np.ndarray) -> _Fit:
    """Fits the model with the best strength on the validation images, and predicts the test images."""
    from sklearn.linear_model import LogisticRegression  # a second to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels, split = data.source.labels, data.split
    selection = split.validation if len(split.validation) else split.train
    best = (-1.0, 0.0, None)
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        model.fit(histograms[split.train], labels[split.train])
        score = float(model.score(histograms[selection], labels[selection]))
        best = max(best, (score, strength, model), key=lambda each: each[0])
    validation_accuracy, strength, model = best
    assert model is not None
    probabilities = model.predict_proba(histograms[split.test])
    predictions = Predictions.of(data.source, split.test, probabilities, data.group_ids)
    return _Fit(predictions, strength, validation_accuracy, sha256(split.to_csv(data.source)))
