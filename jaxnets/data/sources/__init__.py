"""Data sources by their data.name in configs; only the opened one is imported."""

from pathlib import Path

from ml_collections import config_dict

from jaxnets.config import nearest
from jaxnets.data.sources.base import Source
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
    name = config.name
    if name not in TITLES:
        raise ConfigError(
            f"unknown data source {name!r}{nearest(name, TITLES)}; there are {', '.join(TITLES)}"
        )
    if name in ("image_folder", "tfds") and not config.path:
        raise ConfigError(f"--config.data.name={name} needs --config.data.path=DIR")
    match name:
        case "synthetic_tissue":
            from jaxnets.data.sources.synthetic_tissue import SyntheticTissue

            return SyntheticTissue(config.num_examples, config.image_size, config.synthetic_seed)
        case "image_folder":
            from jaxnets.data.sources.image_folder import ImageFolder

            return ImageFolder(config.path, max_pixels=config.max_pixels)
        case "tfds":
            from jaxnets.data.sources.tfds import TFDSSource

            return TFDSSource(config.path)
        case "points":
            from jaxnets.data.sources.points import Points

            return Points()
        case _:
            from jaxnets.data.acquire.prepare import open_prepared

            return open_prepared(name, root)
