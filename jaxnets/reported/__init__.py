"""The numbers of the five reports, by entry."""

import functools
import json
from importlib import resources
from typing import Any

from jaxnets.errors import ConfigError

DATA = {
    "lung": "lc25000_lung",
    "lenet5_mnist": "mnist",
    "alexnet_cifar10": "cifar10",
    "mlp_tanh": "points",
    "mlp_relu": "points",
}
"""The result documents and the source that their networks were trained on."""
VARIANTS = {"C/alexnet": "pool3", "E/alexnet": "pool2"}  # config.model.variant


@functools.cache
def document(name: str) -> dict[str, Any]:
    """Returns the content of NAME.json; do not modify it."""
    return json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text())


@functools.cache
def _entries() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for name, data in DATA.items():
        content = document(name)
        shared = {"data": data, "train_examples": content.get("data", {}).get("train_examples")}
        for key, value in content["entries"].items():
            shape = {field: tuple(value[field]) for field in ("layer_sizes", "activations") if field in value}
            entries[key] = {**value, **shape, **shared, "variant": VARIANTS.get(key)}
    return entries


def names() -> list[str]:
    """Returns the ids of all entries, such as "A/resnet50"."""
    return sorted(_entries())


def entry(name: str) -> dict[str, Any]:
    """Returns the reported data of a network; raises ConfigError for an unknown id."""
    if name not in _entries():
        raise ConfigError(f"unknown entry {name!r}; entries: {', '.join(names())}")
    return _entries()[name]


def tested_as(name: str) -> str:
    """Returns the test of result.json that is like the reported one, which had augmentation or dropout."""
    settings = entry(name).get("config") or {}
    augmented = bool(settings.get("test_set_augmented"))
    dropout = bool(settings.get("dropout")) and settings.get("eval_mode_at_test") is False
    return "_".join(["augmented"] * augmented + ["dropout"] * dropout) or "clean"
