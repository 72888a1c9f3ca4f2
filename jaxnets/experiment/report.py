"""Writes the HTML report of a run."""

import datetime
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import config_dict

from jaxnets import models
from jaxnets.data.dataset import Dataset
from jaxnets.data.sources import TITLES, disclaimer
from jaxnets.evaluation import gradcam
from jaxnets.evaluation import result as results
from jaxnets.evaluation.predictions import Predictions
from jaxnets.evaluation.report import page
from jaxnets.evaluation.report.measure import measure
from jaxnets.evaluation.summary import format_cross_validation
from jaxnets.experiment.feature_map import make_feature_map
from jaxnets.experiment.leakage import format_split
from jaxnets.experiment.predictor import Predictor
from jaxnets.experiment.run_directory import CONFIG, RunDirectory
from jaxnets.io import atomic_write, command
from jaxnets.training.callbacks.logs import read_lines
from jaxnets.training.callbacks.loss_warnings import loss_warnings

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
    data: Dataset,
    predictor: Predictor | None,
    measured: Mapping[str, Any],
    predictions: Predictions | None,
    metrics: bytes,
) -> Path:
    """Writes the report and returns its path.

    `predictor` and `predictions` are None for a regression; `metrics` is the content of metrics.jsonl.
    """
    config, part, curves = run.config, measured["split"], read_lines(metrics)
    now = datetime.datetime.now(datetime.UTC)
    leak_mark = _leak_mark(config.data.name, data.source.kind, measured)
    mistakes, uncertain, no_gradcam = [], [], ""
    if predictions is not None:
        mistakes, uncertain, no_gradcam = _cards(data, predictions, predictor)
    content = page.Content(
        title=f"{models.entry(config.model.name).title} on {TITLES[config.data.name]}",
        subtitle=f"Config {config.name}, run {run.path.resolve().name}: checkpoint of step "
        f"{measured['step']:,}, evaluated on the {part} set on {now:%Y-%m-%d at %H:%M} UTC",
        part=part,
        warnings=[
            *_warnings(run.result, measured, leak_mark, given_groups=data.has_given_groups),
            *loss_warnings(config, curves),
        ],
        leak_mark=leak_mark,
        disclaimer=disclaimer(config.data.name, medical=config.data.medical),
        given_groups=data.has_given_groups,
        metrics=measured,
        facts=_facts(config, data, run.result, measured),
        split=_describe_split(config, data, measured.get("leakage", {})),
        parts=_parts(data),
        curves=curves,
        mistakes=mistakes,
        uncertain=uncertain,
        no_gradcam=no_gradcam,
        manifest={
            name: _format(value)
            for name, value in run.manifest.items()
            if name not in ("classes", "command") and value is not None
        },
        commands=_commands(run, part),
        feature_map=None if predictor is None else make_feature_map(data, predictor, part),
    )
    return _write(run.path, content)


def write_cross_validation_report(
    directory: Path,
    config: config_dict.ConfigDict,
    data: Dataset,
    result: results.Result,
    predictions: Predictions,
) -> Path:
    """Writes the report of the pooled predictions of a cross-validation and returns its path.

    `config` and `data` are those of one fold, and the images of `data` have the config's size.
    """
    classes, runs = data.source.classes, result["cross_validation"]["runs"]
    measured: dict[str, Any] = {"split": "test", "step": result["step"], **result["tests"]["clean"]}
    measured |= {**measure(predictions, classes), "leakage": result["leakage"]}
    leak_mark = _leak_mark(config.data.name, data.source.kind, measured)
    mistakes, uncertain, no_gradcam = _cards(data, predictions, None)
    folds, counts = result["cross_validation"]["folds"], np.bincount(data.source.labels)
    content = page.Content(
        title=f"{models.entry(config.model.name).title} on {TITLES[config.data.name]}: "
        f"{folds}-fold cross-validation",
        subtitle=f"Config {config.name}, {directory.resolve().name}: {len(runs)} networks, each tested on a "
        f"fold that it was not trained on; finished on {result['finished'][:16].replace('T', ' at ')} UTC",
        part="test",
        warnings=_warnings(result, measured, leak_mark, given_groups=data.has_given_groups),
        leak_mark=leak_mark,
        disclaimer=disclaimer(config.data.name, medical=config.data.medical),
        given_groups=data.has_given_groups,
        metrics=measured,
        facts={**_facts(config, data, result, measured), "accuracy": format_cross_validation(result)},
        split=_describe_split(config, data, result["leakage"]),
        parts={"tested": counts.tolist()},
        curves=[],
        mistakes=mistakes,
        uncertain=uncertain,
        no_gradcam=no_gradcam,
        manifest={},
        commands={"Train the folds and write this report:": result["command"]},
        runs=runs,
    )
    return _write(directory, content)


def _write(directory: Path, content: page.Content) -> Path:
    html = page.render(content)
    path, figures = report_paths(directory, content.part)
    path.parent.mkdir(exist_ok=True)
    atomic_write(figures, json.dumps(content.metrics, indent=1) + "\n")
    atomic_write(path, html)
    return path


def _warnings(
    result: results.Result | None, measured: Mapping[str, Any], leak_mark: str, *, given_groups: bool
) -> list[str]:
    part, warnings = measured["split"], []
    if result is None:
        warnings.append("This run is not finished: the metrics are those of its newest checkpoint.")
    if part == "train":
        warnings.append("These are training examples; the metrics do not measure generalisation.")
    if part == "validation":
        warnings.append(
            "Validation examples may have been used to select the checkpoint and hyperparameters."
        )
    if leak_mark == LEAKY:
        fraction = measured["leakage"].get(part)
        relation = results.relation(given_groups=given_groups)
        message = "Images here" if fraction is None else f"{page.percent(fraction)} of the {part} images"
        warnings.append(
            f"LEAKY: {message} have {relation} in training. Accuracy on them measures memorisation of "
            "training images, not generalisation to new ones."
        )
    return warnings


def _leak_mark(data_name: str, kind: str, measured: Mapping[str, Any]) -> str:
    """The mark beside the accuracy: LEAKY, "leakage unknown" or nothing."""
    if measured["split"] == "train":
        return ""
    fraction = measured.get("leakage", {}).get(measured["split"])
    if fraction is not None:
        return LEAKY if fraction else ""
    if data_name in results.DATASETS_WITH_DUPLICATES:
        return LEAKY
    return "leakage unknown" if kind == "image" else ""


def _facts(
    config: config_dict.ConfigDict, data: Dataset, result: results.Result | None, measured: Mapping[str, Any]
) -> dict[str, str]:
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
        facts["training"] = (
            f"{results.format_epochs(result['epochs'])}, batch size {result['batch_size']}, "
            f"seed {result['seed']}, training time {datetime.timedelta(seconds=round(result['seconds']))}"
        )
        if result["overrides"]:
            facts["overrides"] = ", ".join(result["overrides"])
        facts["hardware"] = result["hardware"]
    if averaged := measured.get("test_time_augmentation"):
        facts["test-time augmentation"] = (
            f"accuracy {results.format_test(averaged)} with the mean over the eight flips and rotations of "
            f"each image, a difference of {100 * averaged['difference']:+.2f} points"
        )
    if config.note:
        facts["note"] = config.note
    return facts


def _describe_split(
    config: config_dict.ConfigDict, data: Dataset, leakage: Mapping[str, float | None]
) -> str:
    message = f"Split: {format_split(config, data, leakage)}."
    if data.source.kind != "image":
        return message
    known = [f"{page.percent(value)} of {part}" for part, value in leakage.items() if value is not None]
    if not known:
        return (
            f"{message} The fraction of held-out images with a near-duplicate in training is unknown, as no "
            f"duplicate groups are known: run {command('find_duplicates')}."
        )
    relation = results.relation(given_groups=data.has_given_groups)
    return f"{message} Held-out images with {relation} in training: {', '.join(known)}."


def _parts(data: Dataset) -> dict[str, list[int]]:
    """The number of examples per class by nonempty subset; without classes, the number of examples."""
    count = len(data.source.classes)
    return {
        part: np.bincount(data.source.labels[indices], minlength=count).tolist() if count else [len(indices)]
        for part, indices in data.split.parts().items()
        if len(indices)
    }


def _cards(
    data: Dataset, predictions: Predictions, predictor: Predictor | None
) -> tuple[list[page.Card], list[page.Card], str]:
    """Cards of the most confident mistakes and most uncertain images, and why they have no Grad-CAM maps."""
    mistakes = page.most_confident_mistakes(predictions, MAX_CARDS)
    rows = np.concatenate([mistakes, page.most_uncertain(predictions, MAX_CARDS)])
    pixels = np.stack([data.source[int(predictions.index[row])]["image"] for row in rows])
    maps: Sequence[np.ndarray | None] = [None] * len(rows)
    no_gradcam = "Grad-CAM is left out: each fold has its own network, whose report shows it."
    if predictor is not None:
        height, width = predictor.map_size
        no_gradcam = f"Grad-CAM is left out: the network's last feature map is {height}x{width}, too coarse."
        if min(height, width) >= gradcam.MIN_SIDE:
            maps, no_gradcam = list(predictor.gradcam(pixels, predictions.predicted[rows])), ""
    cards = [
        page.card(predictions, int(row), tuple(data.source.classes), image, heat)
        for row, image, heat in zip(rows, pixels, maps, strict=True)
    ]
    return cards[: len(mistakes)], cards[len(mistakes) :], no_gradcam


def _commands(run: RunDirectory, part: str) -> dict[str, str]:
    train = (run.result or {}).get("command") or run.manifest["command"]
    if not train:
        train = f"# started from Python; the config is in {run.path / CONFIG}"
    option = "" if part == "test" else f" --split={part}"
    again = f"{command('evaluate')} --workdir {shlex.quote(str(run.path))}{option}"
    return {"Train:": train, "Evaluate and write this report:": again}


def _format(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_format(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return " x ".join(map(str, value))
    return str(value)
