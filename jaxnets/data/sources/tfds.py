"""Reads and writes tensorflow-datasets without TensorFlow.

The library's own builders of MNIST and CIFAR-10 need TensorFlow to unpack and to read. Our builders take the
examples from our sources and write array_record with lossless PNG images.
"""

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxnets.data.sources.base import Example, Source
from jaxnets.errors import DataError
from jaxnets.io import file_sha256

EXAMPLE = "tensorflow_datasets/mnist/1.0.0"
_SPLITS = ("train", "test")
_CITATIONS = {
    "mnist": "LeCun, Cortes, Burges: The MNIST database of handwritten digits",
    "cifar10": "Krizhevsky: Learning multiple layers of features from tiny images, 2009",
}


def build_tfds(source: Source, tfds_dir: str | Path) -> Path:
    """Writes a source of equally sized images as a tfds dataset; returns the builder's folder.

    Each example has "image", "label" and "index", its index in our source, because tfds shuffles on writing.
    An existing dataset is not rewritten. Raises DataError if the source has no official split.
    """
    if source.official_split is None:
        raise DataError(f"{source.name}: tfds export needs an official split, as MNIST and CIFAR-10 have")
    import tensorflow_datasets as tfds  # slow to import

    parts = {part: source.official_split[part] for part in _SPLITS}

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = source.name
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            image = tfds.features.Image(shape=source[0]["image"].shape, encoding_format="png")
            label = tfds.features.ClassLabel(names=list(source.classes))
            index = tfds.features.Scalar(np.int64)
            # `dataset_info_from_configs` would need files in the builder's own package.
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict({"image": image, "label": label, "index": index}),
                supervised_keys=("image", "label"),
                citation=_CITATIONS.get(source.name),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {part: self._generate_examples(indices) for part, indices in parts.items()}

        def _generate_examples(self, indices: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
            for index in indices.tolist():
                image, label = source[index]["image"], int(source.labels[index])
                yield index, {"image": _png(image), "label": label, "index": index}

    # The other file formats need TensorFlow.
    builder = Builder(data_dir=os.fspath(tfds_dir), file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def _png(image: np.ndarray) -> BytesIO:
    """Encodes uint8[H, W, C], C 1 or 3; tfds itself would need TensorFlow to encode arrays."""
    file = BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    file.seek(0)
    return file


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
