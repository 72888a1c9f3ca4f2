"""Data sources by their data.name in configs."""

from collections.abc import Callable
from pathlib import Path

from ml_collections import config_dict

from jaxnets.config import nearest
from jaxnets.data.acquire.prepare import open_prepared
from jaxnets.data.sources.base import Source
from jaxnets.data.sources.image_folder import ImageFolder
from jaxnets.data.sources.points import Points
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.data.sources.tfds import TFDSSource
from jaxnets.errors import ConfigError

TITLES = {
    "synthetic_tissue": "synthetic tissue",
    "lc25000_lung": "LC25000 lung",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "image_folder": "image folder",
    "tfds": "tensorflow-datasets",
    "points": "four points",
}


def open_source(config: config_dict.ConfigDict, root: Path) -> Source:
    """Opens the source `config.name` of a config's data section.

    Raises ConfigError for an unknown name or a missing path, DataError for data that cannot be used.
    """
    if config.name not in _OPENERS:
        raise ConfigError(
            f"unknown data source {config.name!r}{nearest(config.name, _OPENERS)}; "
            f"there are {', '.join(_OPENERS)}"
        )
    return _OPENERS[config.name](config, root)


def _path(config: config_dict.ConfigDict) -> Path:
    if not config.path:
        raise ConfigError(f"--config.data.name={config.name} needs --config.data.path=DIR")
    return Path(config.path)


def _open_prepared(config: config_dict.ConfigDict, root: Path) -> Source:
    return open_prepared(config.name, root)


_OPENERS: dict[str, Callable[[config_dict.ConfigDict, Path], Source]] = {
    "synthetic_tissue": lambda config, root: SyntheticTissue(
        config.num_examples, config.image_size, config.synthetic_seed
    ),
    "lc25000_lung": _open_prepared,
    "mnist": _open_prepared,
    "cifar10": _open_prepared,
    "image_folder": lambda config, root: ImageFolder(_path(config), max_pixels=config.max_pixels),
    "tfds": lambda config, root: TFDSSource(_path(config)),
    "points": lambda config, root: Points(),
}
