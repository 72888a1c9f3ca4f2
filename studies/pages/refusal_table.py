"""Prints Markdown tables of fields that a run does not use: python -m studies.pages.refusal_table."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets.registry import NETWORKS, SOURCES

SPLITS: Mapping[str, Mapping[str, Any]] = {
    "random": {"data.split": "random"},
    "random, no validation": {"data.split": "random", "data.fractions": (0.8, 0.0, 0.2)},
    "official": {"data.split": "official"},
    "official, validation": {"data.split": "official", "data.validation_fraction": 0.1},
    "grouped": {"data.split": "grouped"},
    "grouped, folds": {"data.split": "grouped", "data.folds": 5},
}
GROUPS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "Networks": {name: {"model.name": name} for name in NETWORKS},
    "Optimizers": {
        "sgd": {"optimizer.name": "sgd"},
        "sgd, momentum 0": {"optimizer.name": "sgd", "optimizer.momentum": 0.0},
        "adam": {"optimizer.name": "adam"},
        "adam, weight decay": {"optimizer.name": "adam", "optimizer.weight_decay": 0.01},
    },
    "Schedules": {name: {"schedule.name": name} for name in config_lib.FIELDS["schedule.name"].choices},
    "Splits": SPLITS,
    "Sources": {name: {"data.name": name} for name in SOURCES},
    "Losses": {name: {"train.loss": name} for name in config_lib.FIELDS["train.loss"].choices},
    "Weights": {
        "from scratch": {},
        "fine-tuned": {"transfer.weights": "random"},
        "freeze_backbone": {"transfer.weights": "random", "transfer.freeze_backbone": True},
    },
    "Switches that others need": {
        "none of them": {},
        "all of them": {
            "augment.flip_horizontal": True,
            "model.dropout": 0.5,
            "train.ema_decay": 0.9,
            "plateau.patience": 2,
            "early_stopping.patience": 5,
            "data.groups": "FILE",
        },
        "no TensorBoard": {"log.tensorboard": False},
    },
}
"""Changes to `BASE` by table title and column head."""
BASE = {"model.name": "alexnet", "data.name": "mnist", "data.image_size": 32}


def columns(title: str) -> dict[str, config_dict.ConfigDict]:
    """Returns the configs of a table by column head."""
    return {name: _config(changes) for name, changes in GROUPS[title].items()}


def _config(changes: Mapping[str, Any]) -> config_dict.ConfigDict:
    config = config_lib.default_config()
    config.update_from_flattened_dict({**BASE, **changes})
    if config.model.name == "inception_v3":
        config.data.image_size = 299  # required by its auxiliary head
    return config


def unused_fields_table(columns: Mapping[str, config_dict.ConfigDict]) -> str:
    """Returns a Markdown table of fields that only some of the configs use; x marks unused ones."""
    found = {name: config_lib.unused(config) for name, config in columns.items()}
    lines = [_row(["field", "used where", *columns]), _row(["---"] * (2 + len(columns)))]
    for path, field in config_lib.FIELDS.items():
        is_unused = [path in fields for fields in found.values()]
        if any(is_unused) and not all(is_unused):
            marks = ("x" if each else "" for each in is_unused)
            lines.append(_row([f"`{path}`", field.used.description, *marks]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def page() -> str:
    """Returns all tables."""
    tables = (f"## {title}\n\n{unused_fields_table(columns(title))}" for title in GROUPS)
    return "\n".join(["# Fields that are refused, x, because the run does not use them\n", *tables])


if __name__ == "__main__":
    print(page(), end="")
