"""Download or unpack a dataset into the data folder."""

import functools
from collections.abc import Sequence
from pathlib import Path

from jaxnets import config as config_lib
from jaxnets.data.acquire import prepare as data
from jaxnets.errors import ConfigError, suggest
from jaxnets.runtime import console

NAMES = ("lc25000_lung", "mnist", "cifar10")


def prepare(names: Sequence[str], *, root: str | None, from_path: str | None, kaggle: bool = False) -> None:
    """Prepares one dataset in the data folder and prints its location.

    Raises ConfigError for a wrong name, DataError for missing or corrupt files.
    """
    if len(names) != 1 or names[0] not in NAMES:
        hint = f"unknown dataset {names[0]!r}{suggest(names[0], NAMES)}: " if names else ""
        raise ConfigError(f"{hint}give one of {', '.join(NAMES)}")
    config = config_lib.default_config()
    config.data.root = config.data.root if root is None else root
    folder = config_lib.data_root(config)
    with console.phase("prepare") as phase, console.counter("prepare") as progress:
        done = data.prepare(
            names[0],
            folder,
            from_path=Path(from_path) if from_path else None,
            kaggle=kaggle,
            progress=progress,
            log=functools.partial(console.log_progress, "download"),
        )
        was = "was ready" if done.already else "is ready"
        phase.text = f"{names[0]} {was} in {done.path}: {done.examples:,} examples"
