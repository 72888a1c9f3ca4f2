"""Trains on images that are listed in a CSV file with the columns "file" and "label".

python scripts/train.py --config=examples/own_data.py --config.data.path=images.csv
"""

import csv
import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np

from jaxnets.config import default_config
from jaxnets.data import sources
from jaxnets.data.batch import Example
from jaxnets.data.images import read_image
from jaxnets.data.sources.base import Source
from jaxnets.io import file_sha256


class CSVImages(Source):
    """The images of a CSV file; a relative path starts at the file's folder."""

    name = "csv"
    kind = "image"
    official_split = None

    def __init__(self, table: Path):
        self._folder = table.parent
        with table.open(newline="") as file:
            self.files, labels = zip(
                *((row["file"], row["label"]) for row in csv.DictReader(file)), strict=True
            )
        self.classes = tuple(sorted(set(labels)))
        self.labels = np.array([self.classes.index(label) for label in labels], np.int32)

    def _read(self, index: int) -> Example:
        return {"image": read_image(self._folder / self.files[index]), "label": self.labels[index]}

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all files and labels: a run is not resumed with other data."""
        digests = (file_sha256(self._folder / file) for file in self.files)
        return hashlib.sha256("\n".join([*digests, *map(str, self.labels)]).encode()).hexdigest()


sources.register("csv", lambda data, root: CSVImages(Path(data.path)), title="images of a CSV file")


def get_config():
    """Returns the config."""
    config = default_config()
    config.name = "own_data"
    config.data.name = "csv"
    config.data.image_size = 32
    config.model.name = "lenet5"
    config.train.epochs = 20
    config.train.batch_size = 16
    return config
