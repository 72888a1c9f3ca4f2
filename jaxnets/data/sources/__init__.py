"""Data sources by their data.name in configs; each is imported when it is opened."""

import pkgutil
from collections.abc import Callable
from pathlib import Path

from ml_collections import config_dict

from jaxnets.config import nearest
from jaxnets.data.sources.base import Source
from jaxnets.errors import ConfigError

Factory = Callable[[config_dict.ConfigDict, Path], Source]
"""Opens a source from a config's data section and the data folder."""
TITLES = {
    "synthetic_tissue": "synthetic tissue",
    "lc25000_lung": "LC25000 lung",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "image_folder": "image folder",
    "tfds": "tensorflow-datasets",
    "points": "four points",
}
_CLASSES = {
    "synthetic_tissue": "synthetic_tissue:SyntheticTissue",
    "lc25000_lung": "lc25000:LC25000Lung",
    "mnist": "mnist:MNIST",
    "cifar10": "cifar10:CIFAR10",
    "image_folder": "image_folder:ImageFolder",
    "tfds": "tfds:TFDSSource",
    "points": "points:Points",
}
"""The module of jaxnets.data.sources and the class of each source, which has `open(config, root)`."""
_registered: dict[str, Factory] = {}


def register(name: str, factory: Factory, *, title: str | None = None) -> None:
    """Adds a source under a new name, so that --config.data.name may name it.

    Raises ValueError if the name is taken.
    """
    if name in TITLES:
        raise ValueError(f"a data source named {name!r} is registered already")
    TITLES[name], _registered[name] = title or name, factory


def open_source(config: config_dict.ConfigDict, root: Path) -> Source:
    """Opens the source `config.name` of a config's data section.

    Raises ConfigError for an unknown name or a missing path, DataError for data that cannot be used.
    """
    name = config.name
    if name not in TITLES:
        raise ConfigError(
            f"unknown data source {name!r}{nearest(name, TITLES)}; there are {', '.join(TITLES)}"
        )
    if name in ("image_folder", "tfds") and not config.path:
        raise ConfigError(f"--config.data.name={name} needs --config.data.path=DIR")
    if name in _registered:
        return _registered[name](config, root)
    return pkgutil.resolve_name(f"{__name__}.{_CLASSES[name]}").open(config, root)
