"""Writes prepared data in the format of tensorflow-datasets, without TensorFlow: mnist or cifar10.

python examples/write_tfds.py mnist DIR

The builders of tensorflow-datasets itself need TensorFlow to unpack and to read. This one takes the examples
from a data source of jaxnets and writes array_record with lossless PNG images.
"""

import os
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxnets import config
from jaxnets.data import sources
from jaxnets.data.sources.base import Source
from jaxnets.errors import DataError

CITATIONS = {
    "mnist": "LeCun, Cortes, Burges: The MNIST database of handwritten digits",
    "cifar10": "Krizhevsky: Learning multiple layers of features from tiny images, 2009",
}
SPLITS = ("train", "test")


def build_tfds(source: Source, tfds_dir: str | Path) -> Path:
    """Writes a source of equally sized images as a tfds dataset; returns the builder's folder.

    Each example has "image", "label" and "index", its index in our source, because tfds shuffles on writing.
    An existing dataset is not rewritten. Raises DataError if the source has no official split.
    """
    if source.official_split is None:
        raise DataError(f"{source.name}: tfds export needs an official split, as MNIST and CIFAR-10 have")
    import tensorflow_datasets as tfds  # slow to import

    parts = {part: source.official_split[part] for part in SPLITS}

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
                citation=CITATIONS.get(source.name),
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


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/write_tfds.py mnist|cifar10 DIR")
    settings = config.default_config()
    settings.data.name = sys.argv[1]
    folder = build_tfds(sources.open_source(settings.data, config.data_root(settings)), sys.argv[2])
    print(f"--config.data.name=tfds --config.data.path={folder}")
