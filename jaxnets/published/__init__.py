"""The numbers that the five reports print, and how an entry of them is looked up."""

import functools
import json
from importlib import resources
from typing import Any

from jaxnets.errors import ConfigError

FILES = ("lung.json", "lenet5_mnist.json", "alexnet_cifar10.json", "mlp_tanh.json", "mlp_relu.json")


@functools.cache
def _entries() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for name in FILES:
        document = json.loads(resources.files(__name__).joinpath(name).read_text())
        entries.update(document.get("entries", {}))
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
