"""The numbers that the five reports print, and how an entry of them is looked up."""

import functools
import json
from importlib import resources
from typing import Any

from jaxnets.errors import ConfigError

DATA = {
    "lung.json": "lc25000_lung",
    "lenet5_mnist.json": "mnist",
    "alexnet_cifar10.json": "cifar10",
}
"""Each file of results, and the source that its networks were trained on."""


@functools.cache
def _entries() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for name, data in DATA.items():
        document = json.loads(resources.files(__name__).joinpath(name).read_text())
        for key, value in document["entries"].items():
            entries[key] = {**value, "data": data}
    return entries


def names() -> list[str]:
    """The ids of all entries with results, such as "A/resnet50"."""
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
