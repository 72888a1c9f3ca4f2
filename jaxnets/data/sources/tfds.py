"""Reads data sets of tensorflow-datasets, stored as array_record, without TensorFlow.

examples/write_tfds.py writes MNIST and CIFAR-10 in this format.
"""

import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.batch import Example
from jaxnets.data.sources.base import Source
from jaxnets.errors import DataError
from jaxnets.io import file_sha256

EXAMPLE = "tensorflow_datasets/mnist/1.0.0"
_SPLITS = ("train", "test")


class TFDSSource(Source):
    """A tfds dataset stored as array_record: kind "image", train before test.

    `path` is the builder's folder, such as tensorflow_datasets/mnist/1.0.0, with at least the features
    "image" and "label". Raises DataError for another kind of folder or a damaged record.
    """

    name = "tfds"
    kind = "image"

    def __init__(self, path: str | Path):
        import tensorflow_datasets as tfds

        self.path = Path(path)
        decoders = {"image": tfds.decode.SkipDecoding()}
        try:
            builder: Any = tfds.builder_from_directory(os.fspath(path))
            features = builder.info.features
            self.classes = tuple(features["label"].names)
            splits = [part for part in _SPLITS if part in builder.info.splits]
            self._parts = {part: builder.as_data_source(part) for part in splits}
            undecoded = [builder.as_data_source(part, decoders=decoders) for part in splits]
        except Exception as error:  # tfds raises many types on incomplete folders
            problem = f"not a tfds folder of images as array_record ({error})"
            raise DataError(f"{path}: {problem}; give one such as {EXAMPLE}") from error
        if "image" not in features or not self._parts:
            raise DataError(f"{path}: its features or splits are missing; expected image, label and train")
        try:
            self.labels = np.array([record["label"] for part in undecoded for record in part], np.int32)
        except Exception as error:  # the reader and decoder raise many types on damaged files
            raise DataError(f"{path}: a record cannot be read ({error}); build it again") from error
        sizes = {part: len(records) for part, records in self._parts.items()}
        self.files = tuple(f"{part}/{place:05d}" for part, size in sizes.items() for place in range(size))
        indices = np.split(np.arange(len(self)), np.cumsum(list(sizes.values()))[:-1])
        self.official_split = dict(zip(sizes, indices, strict=True))

    def _read(self, index: int) -> Example:
        part, place = self.files[index].split("/")
        try:
            record = self._parts[part][int(place)]
        except Exception as error:
            raise DataError(f"{self.path}: example {index} is damaged ({error}); build it again") from error
        return {"image": record["image"], "label": np.int32(record["label"])}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the names and contents of the folder's files."""
        digest_of_all = hashlib.sha256()
        for path in sorted(path for path in self.path.iterdir() if path.is_file()):
            digest_of_all.update(f"{path.name}\0{file_sha256(path)}\n".encode())
        return digest_of_all.hexdigest()
