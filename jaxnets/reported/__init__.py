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

VARIANTS = {"C/alexnet": "pool3", "E/alexnet": "pool2"}
"""The config.model.variant of entries whose network has several."""


@functools.cache
def document(name: str) -> dict[str, Any]:
    """Returns the content of NAME.json; do not modify it."""
    return json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text())


@functools.cache
def _entries() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for name, data in DATA.items():
        content = document(name)
        group = content["entries"] if "entries" in content else {content["id"]: _mlp(content)}
        for key, value in group.items():
            entries[key] = {
                **value,
                "data": data,
                "variant": VARIANTS.get(key),
                "train_examples": content.get("data", {}).get("train_examples"),
            }
    return entries


def _mlp(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the entry of a document about one MLP, which has tables instead of a result."""
    sizes, activation = content["network"]["layer_sizes"], content["network"]["activation"]
    is_list = isinstance(activation, list)
    activations = activation if is_list else [activation.split()[0]] * (len(sizes) - 1)
    return {
        "report": content["report"],
        "model": "mlp",
        "layer_sizes": tuple(sizes),
        "activations": tuple(activations),
    }


def names() -> list[str]:
    """Returns the ids of all entries, such as "A/resnet50"."""
    return sorted(_entries())


def entry(name: str) -> dict[str, Any]:
    """Returns the reported data of a network; raises ConfigError for an unknown id."""
    entries = _entries()
    if name not in entries:
        raise ConfigError(f"unknown entry {name!r}; entries: {', '.join(sorted(entries))}")
    return entries[name]


def tested_as(name: str) -> str:
    """Returns the test of result.json that matches the reported accuracy.

    It is "clean" unless test images were augmented or dropout was active.
    """
    settings = entry(name).get("config") or {}
    augmented = bool(settings.get("test_set_augmented"))
    dropout = bool(settings.get("dropout")) and settings.get("eval_mode_at_test") is False
    return "_".join(["augmented"] * augmented + ["dropout"] * dropout) or "clean"


def contradiction(name: str) -> str | None:
    """Returns a note with both accuracies if a report's text contradicts its log, else None."""
    claims = entry(name).get("claimed") or {}
    concluded = (claims.get("conclusions") or {}).get("test_accuracy_percent")
    claimed = claims.get("accuracy_percent", concluded)
    logged = (entry(name).get("result") or {}).get("accuracy_percent")
    if claimed is None or logged is None or claimed in (logged, int(logged)):  # "98 %" for 98.66 %
        return None
    return f"its text says {claimed:g} %, its own log {logged:g} %"


def data_of(name: str) -> str:
    """Returns the data.name of an entry."""
    return entry(name)["data"]
