"""Measures calibration, prediction sets and the score of unlike images on a cross-validation's networks."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict
from sklearn.metrics import roc_auc_score

from jaxnets import config as config_lib
from jaxnets.data import sources
from jaxnets.data.sources.base import Source
from jaxnets.errors import ConfigError
from jaxnets.evaluation import conformal, statistics
from jaxnets.evaluation.predictions import Predictions
from jaxnets.experiment.data import open_dataset, with_cache
from jaxnets.experiment.load import open_network
from jaxnets.experiment.predictor import Prediction, Predictor
from jaxnets.experiment.run_directory import open_run, read_result
from jaxnets.experiment.uncertainty import minimum_probability
from jaxnets.io import atomic_write
from jaxnets.runtime import console, xla
from studies import stain_jitter as shifts

COVERAGES = (0.8, 0.9, 0.95, 0.98)
COVERAGE = 0.98  # of the prediction sets of shifted images
UNLIKE = 0.95  # scores from here on count as unlike the training images
EVERY = 4  # of the test images, one in four is shifted
SHIFTS = {
    "hue": (-0.1, -0.05, 0.05, 0.1),
    "saturation": (0.0, 0.5, 1.5),
    "haematoxylin": (0.5, 1.5),
    "eosin": (0.5, 1.5),
}
OTHERS = ("synthetic_tissue", "cifar10")
NUM_OTHERS = 500


def measure(directory: Path, out: Path, *, others: Sequence[str] = OTHERS) -> dict[str, Any]:
    """Measures the folds in the folder of a cross-validation and writes the figures as JSON to `out`.

    The first fold needs `evaluate --ood` before. Raises ConfigError if the folder is none of a
    cross-validation, and the errors of `jaxnets.load`.
    """
    pooled = read_result(directory)
    if pooled is None or "cross_validation" not in pooled:
        raise ConfigError(f"{directory} has no result of scripts/cross_validate.py: run that first")
    folders = [directory / run["name"] for run in pooled["cross_validation"]["runs"]]
    measured: dict[str, Any] = {"config": pooled["name"], "folds": len(folders)}
    measured |= _measure_predictions(folders)
    measured["images"] = _measure_images(folders[0], others)
    atomic_write(out, json.dumps(measured, indent=1) + "\n")
    console.log("saved", str(out))
    return measured


def _measure_predictions(folders: Sequence[Path]) -> dict[str, Any]:
    """Calibration and prediction sets of all folds, each calibrated on its own validation fold."""
    tested: list[Predictions] = []
    scaled: list[np.ndarray] = []
    members: dict[float, list[np.ndarray]] = {coverage: [] for coverage in COVERAGES}
    for folder in folders:
        run = open_run(folder)
        predictions, result = run.predictions(), run.result
        assert predictions is not None
        assert result is not None
        tested.append(predictions)
        scaled.append(
            statistics.with_temperature(predictions.probabilities, result.get("temperature") or 1.0)
        )
        for coverage in COVERAGES:
            minimum = minimum_probability(run, result["step"], coverage)
            members[coverage].append(conformal.in_prediction_set(predictions.probabilities, minimum))
    label, group, probabilities, correct = (
        np.concatenate([getattr(each, name) for each in tested])
        for name in ("label", "group", "probabilities", "correct")
    )
    sets = [_describe_sets(c, np.concatenate(members[c]), label, group, correct) for c in COVERAGES]
    return {
        "examples": len(label),
        "groups": len(np.unique(group)),
        "accuracy": float(correct.mean()),
        "calibration_error": statistics.calibration(probabilities, label).error,
        "calibration_error_scaled": statistics.calibration(np.concatenate(scaled), label).error,
        "sets": sets,
    }


def _describe_sets(
    coverage: float, members: np.ndarray, label: np.ndarray, group: np.ndarray, correct: np.ndarray
) -> dict[str, Any]:
    covered, sizes = members[np.arange(len(label)), label], members.sum(axis=1)
    return {
        "wanted": coverage,
        "covered": float(covered.mean()),
        "interval": list(statistics.group_interval(covered.astype(float), group)),
        "mean_size": float(sizes.mean()),
        "one_class": float((sizes == 1).mean()),
        "mistakes_with_one_class": float((sizes[~correct] == 1).mean()),
    }


def _measure_images(folder: Path, others: Sequence[str]) -> list[dict[str, Any]]:
    """Predictions of test images of one fold, with shifted colours, and of images of other data."""
    run = open_run(folder)
    predictor, warnings = open_network(folder, coverage=COVERAGE, ood=True)
    console.warn(*warnings)
    assert isinstance(predictor, Predictor)
    with xla.precision_of(run.config.model):
        data = with_cache(run.config, open_dataset(run.config))
        chosen = data.split.test[::EVERY]
        images = np.stack([data.source[int(index)]["image"] for index in chosen])
        labels = [data.source.classes[label] for label in data.source.labels[chosen]]
        clean = predictor.classify(images)
        rows = [_describe_images("clean", None, clean, clean, labels)]
        for kind, strength, shifted in _shifted(images):
            rows.append(_describe_images(kind, strength, predictor.classify(shifted), clean, labels))
        for name in others:
            source = _other_source(config_dict.ConfigDict(cast(Any, run.config)), name)
            pixels = [
                predictor.preprocess.read(source[i]["image"]) for i in range(min(NUM_OTHERS, len(source)))
            ]
            rows.append(
                _describe_images(sources.TITLES[name], None, predictor.classify(np.stack(pixels)), clean)
            )
    return rows


def _shifted(images: np.ndarray) -> Iterator[tuple[str, float, np.ndarray]]:
    shift = jax.jit(jax.vmap(shifts.shift_colours, in_axes=(0, None, None)))
    for kind, strengths in SHIFTS.items():
        for strength in strengths:
            arguments = jnp.int32(list(shifts.SHIFTS).index(kind)), jnp.float32(strength)
            parts = [
                np.asarray(shift(part.astype(np.float32) / 255, *arguments))
                for part in np.array_split(images, max(1, len(images) // 32))
            ]
            yield kind, strength, np.rint(255 * np.concatenate(parts).clip(0, 1)).astype(np.uint8)


def _other_source(config: config_dict.ConfigDict, name: str) -> Source:
    config.data.name, config.data.num_examples = name, NUM_OTHERS
    return sources.open_source(config.data, config_lib.data_root(config))


def _describe_images(
    kind: str,
    strength: float | None,
    found: Sequence[Prediction],
    clean: Sequence[Prediction],
    labels: Sequence[str] | None = None,
) -> dict[str, Any]:
    scores, clean_scores = (np.array([each.ood_score for each in list_]) for list_ in (found, clean))
    is_other = np.repeat([0, 1], [len(clean_scores), len(scores)])
    row: dict[str, Any] = {
        "kind": kind,
        "strength": strength,
        "examples": len(found),
        "confidence": float(np.mean([each.confidence for each in found])),
        "mean_size": float(np.mean([len(each.prediction_set or ()) for each in found])),
        "unlike": float((scores >= UNLIKE).mean()),
        "roc_auc": float(roc_auc_score(is_other, np.concatenate([clean_scores, scores]))),
    }
    if labels is not None:
        row["accuracy"] = float(
            np.mean([each.label == label for each, label in zip(found, labels, strict=True)])
        )
        covered = [label in (each.prediction_set or ()) for each, label in zip(found, labels, strict=True)]
        row["covered"] = float(np.mean(covered))
    figures = (f"{name} {value:.3f}" for name, value in row.items() if isinstance(value, float))
    console.log("images", f"{kind}: {', '.join(figures)}")
    return row
