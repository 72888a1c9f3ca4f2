"""Complete and consistent results for tests."""

import ast
import json
from pathlib import Path
from typing import Any

from jaxnets import config as config_lib
from jaxnets.evaluation.predictions import Predictions, predictions_name
from jaxnets.evaluation.result import SCHEMA_VERSION
from jaxnets.evaluation.statistics import wilson_interval
from jaxnets.experiment import workdir

EXAMPLES = 10_000


def entry(accuracy: float, *, examples: int = EXAMPLES, **changes: Any) -> dict[str, Any]:
    """Returns an entry of `tests` for two classes; the accuracy is rounded to whole examples."""
    correct = round(accuracy * examples)
    return {
        "accuracy": correct / examples,
        "interval": list(wilson_interval(correct, examples)),
        "interval_method": "wilson",
        "loss": 0.1,
        "examples": examples,
        "confusion": [[correct, examples - correct], [0, 0]],
        **changes,
    }


def make_result(**changes: Any) -> dict[str, Any]:
    """Returns a result; fields that repeat the clean test follow from `tests`."""
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": "config:variant",
        "entry": None,
        "model": "resnet50",
        "truncate_after": None,
        "weights": None,
        "pretrained_on": None,
        "freeze_backbone": False,
        "parameters": 23_514_179,
        "auxiliary_parameters": 0,
        "on_cached_features": False,
        "features_seconds": None,
        "trained_parameters": 23_514_179,
        "data": "lc25000_lung",
        "split": "random",
        "split_sha256": "0" * 64,
        "groups": None,
        "group_level": "group",
        "leakage": {"test": None, "validation": None},
        "fold": None,
        "image_size": 64,
        "epochs": 3,
        "seed": 0,
        "batch_size": 32,
        "overrides": [],
        "command": "",
        "implementation": "cpu: by shape",
        "tests": {"clean": entry(0.9)},
        "validation_accuracy": None,
        "train_accuracy": None,
        "curves": "metrics.jsonl",
        "seconds": 10.0,
        "images_per_second": 100.0,
        "hardware": "2 cores",
        "versions": {},
        "finished": "2026-01-01T00:00:00+00:00",
        "stopped_early": None,
        "step": 7,
        "not_bit_exact": False,
        "complete": True,
        "note": "",
        **changes,
    }
    clean = result["tests"]["clean"]
    derived = {f"test_{name}": clean.get(name) for name in ("accuracy", "examples", "interval")}
    return {**result, **derived, "interval_method": clean.get("interval_method")}


def write(folder: Path, **changes: Any) -> dict[str, Any]:
    """Writes result.json and config.json into a new folder and returns the result."""
    result = make_result(**changes)
    write_files(folder, {"result.json": json.dumps(result), "config.json": config_json(result)})
    return result


def write_files(folder: Path, contents: dict[str, str | bytes]) -> None:
    """Writes files into a folder and lists them in a new checksums.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("checksums.json", "config.json"):
        (folder / name).unlink(missing_ok=True)
    workdir.write_files(folder, contents)


def write_predictions(folder: Path, predictions: Predictions, part: str = "test") -> None:
    """Writes the predictions of a run that has a checksums.json."""
    workdir.write_files(folder, {predictions_name(part): predictions.to_bytes()})


def config_json(result: dict[str, Any]) -> str:
    """Returns the text of a config.json that matches a result."""
    config = config_lib.default_config()
    config.name, config.seed = result["name"], result["seed"]
    config.model.name, config.model.num_classes = result["model"], 2
    config.data.name, config.data.image_size = result["data"], result["image_size"] or 224
    config.train.batch_size, config.train.epochs = result["batch_size"], 1
    for override in result["overrides"]:
        path, _, value = override.partition("=")
        config_lib.set_field(config, path, ast.literal_eval(value))
    return config_lib.to_json(config)


def manifest_json(**changes: Any) -> str:
    """Returns the text of a manifest.json for three classes of 16x16 images."""
    content = {
        "command": "",
        "versions": {},
        "hardware": "2 cores",
        "git_commit": None,
        "data": "synthetic_tissue",
        "classes": ["a", "b", "c"],
        "input_shape": [16, 16, 3],
        "data_fingerprint": "",
        "backbone_sha256": None,
        "split_sha256": "0" * 64,
        **changes,
    }
    return json.dumps(content)
