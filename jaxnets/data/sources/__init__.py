"""Data sources by their data.name in configs; each is imported when it is opened."""

import pkgutil
from collections.abc import Callable
from pathlib import Path

from ml_collections import config_dict

from jaxnets.config import suggest
from jaxnets.data.sources.base import PreparedSource, Source
from jaxnets.errors import ConfigError
from jaxnets.registry import SOURCES

Factory = Callable[[config_dict.ConfigDict, Path], Source]
"""Opens a source from a config's data section and the data folder."""
TITLES = {name: source.title for name, source in SOURCES.items()}
MEDICAL = {name for name, source in SOURCES.items() if source.medical}
DISCLAIMER = "For research only. Not a medical device: do not use it for diagnosis or treatment."
_registered: dict[str, Factory] = {}


def register(name: str, factory: Factory, *, title: str | None = None, medical: bool = False) -> None:
    """Adds a source under a new name, so that --config.data.name may name it.

    Reports and predictions of `medical` data have a disclaimer. Raises ValueError if the name is taken.
    """
    if name in TITLES:
        raise ValueError(f"a data source named {name!r} is registered already")
    TITLES[name], _registered[name] = title or name, factory
    if medical:
        MEDICAL.add(name)


def disclaimer(name: str | None) -> str:
    """The disclaimer for a network trained on the source; "" unless the source is known to be medical."""
    return DISCLAIMER if name in MEDICAL else ""


def open_source(config: config_dict.ConfigDict, root: Path) -> Source:
    """Opens the source `config.name` of a config's data section.

    Raises ConfigError for an unknown name or a missing path, DataError for data that cannot be used.
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
        raise ConfigError(f"--config.data.name={name} needs --config.data.path=DIR")
    source = pkgutil.resolve_name(f"{__name__}.{path}")
    if issubclass(source, PreparedSource):
        return source.open(root)
    return source(*(getattr(config, field) for field in fields))
