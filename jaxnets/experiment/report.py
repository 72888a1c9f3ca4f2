"""Writes the HTML report of a run."""

import datetime
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets import models
from jaxnets.data.sources import TITLES
from jaxnets.evaluation import result as results
from jaxnets.evaluation.gradcam import make_gradcam
from jaxnets.evaluation.predictions import Predictions
from jaxnets.evaluation.report.page import Content, percent, render
from jaxnets.evaluation.report.pictures import Card, card, most_confident_mistakes, most_uncertain
from jaxnets.experiment import workdir
from jaxnets.experiment.data import Data
from jaxnets.experiment.run_directory import RunDirectory
from jaxnets.io import atomic_write
from jaxnets.runtime import xla
from jaxnets.training.callbacks.loss_warnings import loss_warnings
from jaxnets.training.callbacks.writers import read_lines
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.state import TrainState

FOLDER, LEAKY = "report", "LEAKY"
MAX_CARDS = 12
"""The number of mistakes shown, and of uncertain images."""


def report_paths(directory: Path, part: str) -> tuple[Path, Path]:
    """The paths of the page and its metrics; the names have the subset as a suffix unless it is test."""
    suffix = "" if part == "test" else f"-{part}"
    folder = directory / FOLDER
    return folder / f"index{suffix}.html", folder / f"metrics{suffix}.json"


def write_report(
    run: RunDirectory,
    data: Data,
    state: TrainState,
    measured: Mapping[str, Any],
    predictions: Predictions | None,
    metrics: bytes,
) -> Path:
    """Writes the report and returns its path.

    Args:
        run: the run directory.
        data: the run's data.
        state: the evaluated state.
        measured: the metrics of the evaluation.
        predictions: None for a regression.
        metrics: the content of metrics.jsonl.
    """
    page, figures = report_paths(run.path, measured["split"])
    html = render(_content(run, data, state, measured, predictions, metrics))
    page.parent.mkdir(exist_ok=True)
    atomic_write(figures, json.dumps(measured, indent=1) + "\n")
    atomic_write(page, html)
    return page


def _content(
    run: RunDirectory,
    data: Data,
    state: TrainState,
    measured: Mapping[str, Any],
    predictions: Predictions | None,
    metrics: bytes,
) -> Content:
    config, part = data.config, measured["split"]
    directory, result, manifest = run.path, run.result, run.manifest
    network = models.entry(config.model.name).title
    now = datetime.datetime.now(datetime.UTC)
    curves = read_lines(metrics)
    warnings = [*_warnings(data, result, measured), *loss_warnings(config, curves)]
    mistakes, uncertain = _cards(data, state, predictions) if predictions else ([], [])
    return Content(
        title=f"{network} on {TITLES[config.data.name]}",
        subtitle=f"{config.name}, {directory.resolve().name}: the {part} examples at step "
        f"{measured['step']:,}; made {now:%Y-%m-%d %H:%M} UTC",
        part=part,
        warnings=warnings,
        leak_mark=_leak_mark(data, measured),
        metrics=measured,
        facts=_facts(data, result),
        split=_format_split(data, measured.get("leakage", {})),
        parts=_parts(data),
        curves=curves,
        mistakes=mistakes,
        uncertain=uncertain,
        manifest={name: _format(value) for name, value in manifest.items() if name != "classes"},
        commands=_commands(directory, result, manifest, part),
    )


def _warnings(data: Data, result: results.Result | None, measured: Mapping[str, Any]) -> list[str]:
    part, warnings = measured["split"], []
    if result is None:
        warnings.append("This run is not finished: the metrics are those of its newest checkpoint.")
    if part == "train":
        warnings.append("These are training examples; the metrics do not measure generalisation.")
    if part == "validation":
        warnings.append(
            "Validation examples may have been used to select the checkpoint and hyperparameters."
        )
    if _leak_mark(data, measured) == LEAKY:
        fraction = measured["leakage"].get(part)
        message = "Images here" if fraction is None else f"{percent(fraction)} of the {part} images"
        warnings.append(
            f"LEAKY: {message} have a near-duplicate in training. Accuracy on them measures memory of the "
            "training images, not generalisation to new ones."
        )
    return warnings


def _leak_mark(data: Data, measured: Mapping[str, Any]) -> str:
    """The mark beside the accuracy: LEAKY, "leakage unknown" or nothing."""
    if measured["split"] == "train":
        return ""
    fraction = measured.get("leakage", {}).get(measured["split"])
    if fraction is not None:
        return LEAKY if fraction else ""
    if data.config.data.name in results.DATASETS_WITH_DUPLICATES:
        return LEAKY
    return "leakage unknown" if data.source.kind == "image" else ""


def _facts(data: Data, result: results.Result | None) -> dict[str, str]:
    config = data.config
    facts = {
        "config": config.name,
        "network": models.entry(config.model.name).title,
        "data": f"{TITLES[config.data.name]}, {len(data.source):,} examples",
    }
    if data.source.kind == "image":
        facts["image size"] = f"{config.data.image_size} px"
    if result is not None:
        auxiliary = result["auxiliary_parameters"]
        heads = f" and {auxiliary:,} in auxiliary heads" if auxiliary else ""
        facts["parameters"] = f"{result['parameters']:,}{heads}"
        facts["trained"] = (
            f"{result['epochs']:g} epochs, batches of {result['batch_size']}, seed {result['seed']}, "
            f"in {datetime.timedelta(seconds=round(result['seconds']))}"
        )
        if result["overrides"]:
            facts["overrides"] = ", ".join(result["overrides"])
        facts["hardware"] = result["hardware"]
    if config.note:
        facts["note"] = config.note
    return facts


def _format_split(data: Data, leakage: Mapping[str, float | None]) -> str:
    message = f"Split: {data.format_split(leakage)}."
    if data.source.kind != "image":
        return message
    known = [f"{percent(value)} of {part}" for part, value in leakage.items() if value is not None]
    if not known:
        return (
            f"{message} The fraction of held-out images with a near-duplicate in training is unknown, as no "
            "duplicate groups are known: run scripts/find_duplicates.py."
        )
    return f"{message} Held-out images with a near-duplicate in training: {', '.join(known)}."


def _parts(data: Data) -> dict[str, list[int]]:
    """The number of examples per class by subset; without classes, the number of examples."""
    count = len(data.source.classes)
    return {
        part: np.bincount(data.source.labels[indices], minlength=count).tolist() if count else [len(indices)]
        for part, indices in data.split.parts().items()
    }


def _cards(data: Data, state: TrainState, predictions: Predictions) -> tuple[list[Card], list[Card]]:
    """Cards of the most confident mistakes and of the most uncertain images."""
    mistakes = most_confident_mistakes(predictions, MAX_CARDS)
    rows = np.concatenate([mistakes, most_uncertain(predictions, MAX_CARDS)])
    pixels = np.stack([data.source[int(predictions.index[row])]["image"] for row in rows])
    maps = _gradcam(data, state, pixels, predictions.predicted[rows])
    classes = tuple(data.source.classes)
    cards = [
        card(predictions, int(row), classes, image, heat)
        for row, image, heat in zip(rows, pixels, maps, strict=True)
    ]
    return cards[: len(mistakes)], cards[len(mistakes) :]


def _gradcam(data: Data, state: TrainState, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The Grad-CAM heat map of each image for its label, float[B, h, w]."""
    config = data.config
    gradcam = make_gradcam(models.create(config.model))
    preprocess = make_preprocess(config, train=False)

    def apply(variables: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        inputs, _ = preprocess({"image": images, "label": labels}, jax.random.key(0))
        return gradcam(variables, inputs, labels)

    return jax.device_get(xla.jit(apply)(state.variables(ema=config.eval.ema), pixels, labels))


def _commands(
    directory: Path,
    result: results.Result | None,
    manifest: Mapping[str, Any],
    part: str,
) -> dict[str, str]:
    train = (result or {}).get("command") or manifest["command"]
    if not train:
        train = f"# started from Python; the config is in {directory / workdir.CONFIG}"
    option = "" if part == "test" else f" --split={part}"
    again = f"python scripts/evaluate.py --workdir {shlex.quote(str(directory))}{option}"
    return {"The run:": train, "This page:": again}


def _format(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_format(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return " x ".join(map(str, value))
    return "unknown" if value is None else str(value)
