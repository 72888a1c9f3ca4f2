"""tensorflow-datasets without TensorFlow: builders of MNIST and CIFAR-10, and reading what it made.

The library's own builders of these two need TensorFlow to unpack and to read; ours take the
examples from our sources and write array_record, which needs none. Images are kept as PNG, so
nothing is lost.
"""

import hashlib
import operator
import os
from collections.abc import Iterator
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxnets.data.acquire.prepare import open_prepared
from jaxnets.data.sources.base import Example, Source
from jaxnets.data.sources.image_folder import checked_index
from jaxnets.errors import DataError

_VERSION = "1.0.0"

_SPLITS = ("train", "test")
_CITATIONS = {
    "mnist": "LeCun, Cortes, Burges: The MNIST database of handwritten digits",
    "cifar10": "Krizhevsky: Learning multiple layers of features from tiny images, 2009",
}


def build_tfds(name: str, root: str | os.PathLike[str], tfds_dir: str | os.PathLike[str]) -> Path:
    """Writes "mnist" or "cifar10", prepared in `root`, as tfds has it; returns the builder's folder.

    Each example holds "image", "label" and "index", its place in our source, as tfds shuffles
    what it writes. What is there already is left as it is. Raises DataError where the data set
    is not prepared or has no builder here.
    """
    if name not in _CITATIONS:
        raise DataError(f"{name}: no tfds builder; there are {', '.join(_CITATIONS)}")
    return build_from_source(open_prepared(name, root), tfds_dir)


def build_from_source(source: Source, tfds_dir: str | os.PathLike[str]) -> Path:
    """Does the same for any source of images of one shape that has an official split."""
    # Without array_record, tfds ends by asking for TensorFlow.
    builder = _builder_class(source)(data_dir=os.fspath(tfds_dir), file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def _builder_class(source: Source) -> Any:
    """Makes the builder's class, here and not above: importing tfds is not free."""
    import tensorflow_datasets as tfds

    split = source.official_split
    if split is None:
        raise DataError(f"{source.name}: has no official split to write as tfds's splits")
    parts = {part: split[part] for part in _SPLITS}

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = source.name
        VERSION = tfds.core.Version(_VERSION)

        def _info(self) -> Any:
            shape = source[0]["image"].shape
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=shape, encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(source.classes)),
                    "index": tfds.features.Scalar(np.int64),
                }
            )
            # Not `dataset_info_from_configs`: that wants files in a package of the builder's own.
            return tfds.core.DatasetInfo(
                builder=self,
                features=features,
                supervised_keys=("image", "label"),
                citation=_CITATIONS.get(source.name),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {part: self._generate_examples(places) for part, places in parts.items()}

        def _generate_examples(self, indices: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
            for index in indices.tolist():
                example = source[index]
                image = _png(example["image"])
                yield index, {"image": image, "label": int(example["label"]), "index": index}

    return Builder


def _png(image: np.ndarray) -> BytesIO:
    """Encodes uint8[H, W, C], C 1 or 3; tfds would ask TensorFlow to encode an array."""
    file = BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    file.seek(0)
    return file


class TFDSSource:
    """What tfds has prepared as array_record: kind "image", the split train and then test.

    `path` is the builder's folder, as in tensorflow_datasets/mnist/1.0.0; it holds at least
    "image" and "label". An example's `index` is its place here, in tfds's order. Raises
    DataError for a folder that is none of these, or a record that is damaged.
    """

    kind = "image"

    def __init__(self, path: str | os.PathLike[str], name: str = "tfds"):
        import tensorflow_datasets as tfds

        self.name = name
        self.path = Path(path)
        # tfds and what it calls fail in many ways on a folder that is not whole.
        try:
            builder: Any = tfds.builder_from_directory(os.fspath(path))
            features = builder.info.features
            self.classes = tuple(features["label"].names)
            self._splits = [part for part in _SPLITS if part in builder.info.splits]
            self._parts: list[Any] = [builder.as_data_source(part) for part in self._splits]
            decoders = {"image": tfds.decode.SkipDecoding()}
            self._label_parts: list[Any] = [
                builder.as_data_source(part, decoders=decoders) for part in self._splits
            ]
        except Exception as error:
            raise DataError(
                f"{path}: no builder's folder of images as array_record ({error}); "
                "give one such as tensorflow_datasets/mnist/1.0.0"
            ) from error
        if "image" not in features or not self._splits:
            raise DataError(f"{path}: has no image or no split; wanted are image, label and train")
        self._starts = np.cumsum([0, *map(len, self._parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Example:
        place = checked_index(index, len(self))
        part = int(np.searchsorted(self._starts, place, side="right")) - 1
        try:
            record = self._parts[part][operator.index(place - self._starts[part])]
        except Exception as error:  # whatever the reader or the decoder raises on a damaged file
            raise DataError(
                f"{self.path}: example {place} cannot be read ({error}); build it again"
            ) from error
        return {
            "image": record["image"],
            "label": np.int32(record["label"]),
            "index": np.int64(place),
        }

    @cached_property
    def labels(self) -> np.ndarray:
        """int32[N], read once from every record without decoding an image."""
        return np.array(
            [record["label"] for part in self._label_parts for record in part], np.int32
        )

    @cached_property
    def files(self) -> tuple[str, ...]:
        return tuple(
            f"{split}/{place:05d}"
            for split, part in zip(self._splits, self._parts, strict=True)
            for place in range(len(part))
        )

    @property
    def official_split(self) -> dict[str, np.ndarray]:
        spans = zip(self._starts[:-1], self._starts[1:], strict=True)
        return {
            split: np.arange(start, end)
            for split, (start, end) in zip(self._splits, spans, strict=True)
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the folder's files: their names and contents."""
        hashes = hashlib.sha256()
        for path in sorted(path for path in self.path.iterdir() if path.is_file()):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            hashes.update(f"{path.name}\0{digest}\n".encode())
        return hashes.hexdigest()
