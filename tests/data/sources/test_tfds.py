import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from examples.write_tfds import build_tfds
from jaxnets.data.sources.base import Source
from jaxnets.data.sources.tfds import TFDSSource
from jaxnets.errors import DataError


class Noise:
    """A source of noise images: 12 for training, 5 for the test."""

    kind = "image"
    fingerprint = "0"

    def __init__(self, name, shape):
        generator = np.random.default_rng(0)
        self.name = name
        self.classes = ("zero", "one", "two")
        self.images = generator.integers(0, 256, (17, *shape), np.uint8)
        self.labels = generator.integers(0, 3, 17).astype(np.int32)
        self.files = tuple(map(str, range(17)))
        self.official_split = {"train": np.arange(12), "test": np.arange(12, 17)}

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.labels[index], "index": np.int64(index)}


@pytest.fixture(scope="module", params=[(28, 28, 1), (32, 32, 3)], ids=["grey", "colour"])
def source(request):
    return Noise(f"noise{request.param[-1]}", request.param)


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    return build_tfds(source, tmp_path_factory.mktemp("tfds"))


def test_images_and_labels_round_trip_exactly(source, folder):
    read = TFDSSource(folder)
    assert isinstance(read, Source)
    assert (read.name, read.kind, len(read)) == ("tfds", "image", 17)
    assert read.classes == source.classes
    # tfds shuffles; examples are identified by their pixels.
    indices = {source.images[index].tobytes(): index for index in range(17)}
    seen = []
    for index, example in enumerate(read):
        assert example["image"].dtype == np.uint8
        assert example["image"].shape == source.images.shape[1:]
        original = indices[example["image"].tobytes()]
        assert example["label"] == source.labels[original] == read.labels[index]
        assert example["index"] == index
        assert original in source.official_split["train" if index < 12 else "test"]
        seen.append(original)
    assert sorted(seen) == list(range(17))
    assert read.labels.dtype == np.int32
    assert example["label"].dtype == np.int32


def test_tfds_reads_the_data_with_our_index(source, folder):
    import tensorflow_datasets as tfds

    part = tfds.data_source(f"{source.name}:1.0.0", data_dir=folder.parent.parent, split="test")
    assert sorted(int(record["index"]) for record in part) == [12, 13, 14, 15, 16]
    for record in part:
        np.testing.assert_array_equal(record["image"], source.images[int(record["index"])])


def test_splits_and_names(folder):
    read = TFDSSource(folder)
    assert read.official_split["train"].tolist() == list(range(12))
    assert read.official_split["test"].tolist() == list(range(12, 17))
    assert read.files is read.files  # cached
    assert (read.files[11], read.files[12], len(read.files)) == ("train/00011", "test/00000", 17)
    for index in (-1, 17):
        with pytest.raises(IndexError):
            read[index]


def test_building_twice_changes_nothing(source, folder):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    fingerprint = TFDSSource(folder).fingerprint
    assert build_tfds(source, folder.parent.parent) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert TFDSSource(folder).fingerprint == fingerprint


def test_damaged_records_raise(source, tmp_path):
    folder = build_tfds(source, tmp_path)
    fingerprint = TFDSSource(folder).fingerprint
    path = next(folder.glob("*test.array_record*"))
    data = bytearray(path.read_bytes())
    # array_record pads with zeros, so the median nonzero position is inside the records.
    data[np.median(np.flatnonzero(np.frombuffer(data, np.uint8))).astype(int)] ^= 1
    read = TFDSSource(folder)
    path.write_bytes(data)
    assert read.fingerprint != fingerprint
    with pytest.raises(DataError, match=r"example \d+ is damaged .*; build it again"):
        list(read)
    with pytest.raises(DataError, match=r"a record cannot be read .*; build it again"):
        TFDSSource(folder)


def test_other_folders_raise(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"not a tfds folder .*; give one such as"):
            TFDSSource(path)


def test_source_without_official_split_raises(tmp_path):
    source = Noise("noise", (28, 28, 1))
    source.official_split = None
    with pytest.raises(DataError, match="noise: tfds export needs an official split, as MNIST"):
        build_tfds(source, tmp_path)


def test_tensorflow_is_never_imported_and_tfds_only_when_needed(tmp_path):
    """Runs in a new process with a fake TensorFlow that exits when imported."""
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    code = f"""
        import sys
        sys.path[:0] = [{str(tmp_path)!r}, {os.path.dirname(__file__)!r}]
        import jaxnets.data.sources.tfds as module
        assert "tensorflow_datasets" not in sys.modules
        from test_tfds import Noise
        from examples.write_tfds import build_tfds
        folder = build_tfds(Noise("noise", (28, 28, 1)), {str(tmp_path)!r})
        source = module.TFDSSource(folder)
        assert len(list(source)) == len(source.labels) == 17
        assert source.fingerprint
        assert "tensorflow" not in sys.modules
        print("done")
    """
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("done\n")
