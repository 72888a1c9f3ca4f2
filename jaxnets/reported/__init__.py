"""The numbers that the five reports print, and how an entry of them is looked up."""

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
"""Each document of results, and the source that its networks were trained on."""

VARIANTS = {"C/alexnet": "pool3", "E/alexnet": "pool2"}
"""The entries whose network is one variant of several, by the names of config.model.variant."""


@functools.cache
def document(name: str) -> dict[str, Any]:
    """All that a file of this folder says, by its name without .json; not to be changed."""
    return json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text())


@functools.cache
def _entries() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for name, data in DATA.items():
        printed = document(name)
        found = printed["entries"] if "entries" in printed else {printed["id"]: _mlp(printed)}
        for key, value in found.items():
            entries[key] = {
                **value,
                "data": data,
                "variant": VARIANTS.get(key),
                "train_examples": printed.get("data", {}).get("train_examples"),
            }
    return entries


def _mlp(printed: dict[str, Any]) -> dict[str, Any]:
    """The entry of a document that is of one MLP: what is printed of it is tables, no result."""
    sizes, message = printed["network"]["layer_sizes"], printed["network"]["activation"]
    activations = message if isinstance(message, list) else [message.split()[0]] * (len(sizes) - 1)
    return {
        "report": printed["report"],
        "model": "mlp",
        "layer_sizes": tuple(sizes),
        "activations": tuple(activations),
    }


def names() -> list[str]:
    """The ids of all entries, such as "A/resnet50"."""
    return sorted(_entries())


def entry(name: str) -> dict[str, Any]:
    """What a report prints of one network; raises ConfigError for an id that no report has."""
    entries = _entries()
    if name not in entries:
        raise ConfigError(f"no published entry {name!r}; there are {', '.join(sorted(entries))}")
    return entries[name]


def tested_as(name: str) -> str:
    """How the published accuracy was measured, by the names of result.json's tests.

    "clean" but where the test images were augmented, or dropout was left on.
    """
    recipe = entry(name).get("config") or {}
    augmented = bool(recipe.get("test_set_augmented"))
    dropped = bool(recipe.get("dropout")) and recipe.get("eval_mode_at_test") is False
    accidents = ["augmented"] * augmented + ["dropout"] * dropped
    return "_".join(accidents) or "clean"


def contradiction(name: str) -> str | None:
    """Where a report's text claims another accuracy than its own log has: both, in words."""
    claims = entry(name).get("claimed") or {}
    concluded = (claims.get("conclusions") or {}).get("test_accuracy_percent")
    claimed = claims.get("accuracy_percent", concluded)
    logged = (entry(name).get("result") or {}).get("accuracy_percent")
    if claimed is None or logged is None or claimed in (logged, int(logged)):  # "98 %" for 98.66 %
        return None
    return f"its text says {claimed:g} %, its own log {logged:g} %"


def data_of(name: str) -> str:
    """The source that an entry's network was trained on, by the name that recipes use."""
    return entry(name)["data"]
