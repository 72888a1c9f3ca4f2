"""Data sources by their data.name in configs; each is imported when it is opened."""

import pkgutil
from collections.abc import Callable
from pathlib import Path

from ml_collections import config_dict

from jaxnets.data.sources.base import PreparedSource, Source
from jaxnets.errors import ConfigError, suggest
from jaxnets.registry import SOURCES

Factory = Callable[[config_dict.ConfigDict, Path], Source]
"""Opens a source from a config's data section and the data folder."""
TITLES = {name: source.title for name, source in SOURCES.items()}
MEDICAL = {name for name, source in SOURCES.items() if source.medical}
DISCLAIMER = "For research only. Not a medical device: do not use it for diagnosis or treatment."
_registered: dict[str, Factory] = {}


def register(name: str, factory: Factory, *, title: str | None = None, medical: bool = False) -> None:
    """Adds a source under a new name, so that --config.data.name may name it.

    A run with it may use every field of config.data, such as "path". Reports and predictions of `medical`
    data have a disclaimer. Raises ValueError for a name of one of the package's sources.
    """
    if name in SOURCES:
        raise ValueError(f"{name!r} is a data source of jaxnets: choose another name")
    TITLES[name], _registered[name] = title or name, factory
    MEDICAL.discard(name)
    if medical:
        MEDICAL.add(name)


def disclaimer(name: str | None, *, medical: bool = False) -> str:
    """The disclaimer for a network trained on the source; "" unless that or the user says `medical`."""
    return DISCLAIMER if medical or name in MEDICAL else ""


def open_source(config: config_dict.ConfigDict, root: Path) -> Source:
    """Opens the data source of a config.

    Args:
        config: the section `data`.
        root: the data folder.

    Raises:
        ConfigError: an unknown name or a missing path.
        DataError: the data cannot be used.
    """
    name = config.name
    if name not in TITLES:
        raise ConfigError(
            f"unknown data source {name!r}{suggest(name, TITLES)}; there are {', '.join(TITLES)}"
        )
    if name in _registered:
        return _registered[name](config, root)
    path, fields = SOURCES[name].path, SOURCES[name].fields
    if "path" in fields and not config.path:
        place = "FILE.csv" if name == "table" else "DIR"
        raise ConfigError(f"--config.data.name={name} needs --config.data.path={place}")
    source = pkgutil.resolve_name(f"{__name__}.{path}")
    if issubclass(source, PreparedSource):
        return source.open(root)
    return source(*(getattr(config, field) for field in fields))
