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
            entries[key] = {**value, "data": data}
    return entries


def _mlp(printed: dict[str, Any]) -> dict[str, Any]:
    """The entry of a document that is of one MLP: what is printed of it is tables, no result."""
    sizes, told = printed["network"]["layer_sizes"], printed["network"]["activation"]
    activations = told if isinstance(told, list) else [told.split()[0]] * (len(sizes) - 1)
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


def data_of(name: str) -> str:
    """The source that an entry's network was trained on, by the name that recipes use."""
    return entry(name)["data"]
