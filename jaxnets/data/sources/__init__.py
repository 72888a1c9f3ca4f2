"""Data sources by their data.name in configs; each is imported when it is opened."""

import pkgutil
from collections.abc import Callable
from pathlib import Path

from ml_collections import config_dict

from jaxnets.config import nearest
from jaxnets.data.sources.base import PreparedSource, Source
from jaxnets.errors import ConfigError

Factory = Callable[[config_dict.ConfigDict, Path], Source]
"""Opens a source from a config's data section and the data folder."""
_TISSUE_FIELDS = ("num_examples", "image_size", "synthetic_seed")
_SOURCES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "synthetic_tissue": ("synthetic tissue", "synthetic_tissue:SyntheticTissue", _TISSUE_FIELDS),
    "lc25000_lung": ("LC25000 lung", "lc25000:LC25000Lung", ()),
    "mnist": ("MNIST", "mnist:MNIST", ()),
    "cifar10": ("CIFAR-10", "cifar10:CIFAR10", ()),
    "image_folder": ("image folder", "image_folder:ImageFolder", ("path", "max_pixels")),
    "tfds": ("tensorflow-datasets", "tfds:TFDSSource", ("path",)),
    "points": ("four points", "points:Points", ()),
}
"""Each source's title, its module and class, and the fields of the config that the class is made from."""
TITLES = {name: title for name, (title, _, _) in _SOURCES.items()}
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
    if name in _registered:
        return _registered[name](config, root)
    _, path, fields = _SOURCES[name]
    if "path" in fields and not config.path:
        raise ConfigError(f"--config.data.name={name} needs --config.data.path=DIR")
    source = pkgutil.resolve_name(f"{__name__}.{path}")
    if issubclass(source, PreparedSource):
        return source.open(root)
    return source(*(getattr(config, field) for field in fields))
