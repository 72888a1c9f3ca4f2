"""The report of a run: what the page shows, gathered from the run directory, the data and the network."""

import datetime
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets import models
from jaxnets.data.sources.registry import TITLES
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

FOLDER = "report"
SHOWN = 12
"""At most so many mistakes, and so many uncertain images."""


def report_paths(directory: Path, part: str) -> tuple[Path, Path]:
    """Where the page and its figures go; the names tell the part unless it is test."""
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
    """Writes the page of what was `measured`; its path. Without classes there are no `predictions`.

    `metrics` is metrics.jsonl.
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
    warnings = [*_warnings(result, part), *_of_leak(data, measured), *loss_warnings(config, curves)]
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


def _warnings(result: results.Result | None, part: str) -> list[str]:
    warnings = []
    if result is None:
        warnings.append("This run is not finished: these are the figures of its newest checkpoint.")
    if part == "train":
        warnings.append(
            "The network has been trained on these examples: nothing here tells its worth."
        )
    if part == "validation":
        warnings.append("Validation examples may have chosen checkpoint and settings.")
    return warnings


def _leak_mark(data: Data, measured: Mapping[str, Any]) -> str:
    """What stands beside the accuracy: LEAKY, that nobody knows, or nothing."""
    if measured["split"] == "train":
        return ""
    share = measured.get("leakage", {}).get(measured["split"])
    if share or (share is None and data.config.data.name in results.DATASETS_WITH_DUPLICATES):
        return "LEAKY"
    return "leak not known" if data.source.kind == "image" and share is None else ""


def _of_leak(data: Data, measured: Mapping[str, Any]) -> list[str]:
    """The same in a sentence, for the head of the page."""
    mark, part = _leak_mark(data, measured), measured["split"]
    if mark != "LEAKY":
        return []
    share = measured["leakage"].get(part)
    message = "Images here" if share is None else f"{percent(share)} of the {part} images"
    return [
        f"LEAKY: {message} have a near-duplicate in training. Accuracy on them measures memory of the "
        "training images, not generalisation to new ones."
    ]


def _facts(data: Data, result: results.Result | None) -> dict[str, str]:
    config = data.config
    facts = {
        "recipe": config.name,
        "network": models.entry(config.model.name).title,
        "data": f"{TITLES[config.data.name]}, {len(data.source):,} examples",
    }
    if data.source.kind == "image":
        facts["image size"] = f"{config.data.image_size} px"
    if result is not None:
        in_heads = result["auxiliary_parameters"]
        facts["parameters"] = f"{result['parameters']:,}" + (
            f" and {in_heads:,} in auxiliary heads" if in_heads else ""
        )
        facts["trained"] = (
            f"{result['epochs']:g} epochs, batches of {result['batch_size']}, seed {result['seed']}, "
            f"in {datetime.timedelta(seconds=round(result['seconds']))}"
        )
        if result["overrides"]:
            facts["set otherwise"] = ", ".join(result["overrides"])
        facts["hardware"] = result["hardware"]
    if config.note:
        facts["note"] = config.note
    return facts


def _format_split(data: Data, leak: Mapping[str, float | None]) -> str:
    message = data.format_split(leak)
    if data.source.kind != "image":
        return f"Split: {message}."
    shares = [f"{percent(share)} of {part}" for part, share in leak.items() if share is not None]
    if not shares:
        return (
            f"Split: {message}. How many held-out images have a sibling in training is not known, as no "
            "groups of siblings are known: scripts/find_duplicates.py finds them."
        )
    return f"Split: {message}. Held-out images with a sibling in training: {', '.join(shares)}."


def _parts(data: Data) -> dict[str, list[int]]:
    if not data.source.classes:
        return {part: [len(indices)] for part, indices in data.split.parts().items()}
    return {
        part: np.bincount(data.source.labels[indices], minlength=len(data.source.classes)).tolist()
        for part, indices in data.split.parts().items()
    }


def _cards(
    data: Data, state: TrainState, predictions: Predictions
) -> tuple[list[Card], list[Card]]:
    chosen = [
        most_confident_mistakes(predictions, SHOWN),
        most_uncertain(predictions, SHOWN),
    ]
    places = np.concatenate(chosen)
    pixels = np.stack([data.source[int(predictions.index[place])]["image"] for place in places])
    maps = _maps(data, state, pixels, predictions.predicted[places])
    classes = tuple(data.source.classes)
    cards = [
        card(predictions, int(place), classes, image, heat)
        for place, image, heat in zip(places, pixels, maps, strict=True)
    ]
    return cards[: len(chosen[0])], cards[len(chosen[0]) :]


def _maps(data: Data, state: TrainState, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Grad-CAM of each image for its label, float[B, h, w]."""
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
        train = f"# started from Python; the whole recipe is in {directory / workdir.CONFIG}"
    which = "" if part == "test" else f" --split={part}"
    again = f"python scripts/evaluate.py --workdir {shlex.quote(str(directory))}{which}"
    return {"The run:": train, "This page:": again}


def _format(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_format(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return " x ".join(map(str, value))
    return "not known" if value is None else str(value)
