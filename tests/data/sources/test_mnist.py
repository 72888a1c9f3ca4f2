import gzip
import os

import numpy as np
import pytest

from jaxnets.data.sources.base import Source
from jaxnets.data.sources.mnist import FILES, MNIST
from jaxnets.errors import DataError

COUNTS = {"train": 30, "test": 10}


def arrays(split):
    generator = np.random.default_rng(list(COUNTS).index(split))
    images = generator.integers(0, 256, (COUNTS[split], 28, 28), np.uint8)
    return {"images": images, "labels": generator.integers(0, 10, COUNTS[split]).astype(np.uint8)}


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_set(folder, *, compress=True, dots=False):
    folder.mkdir(parents=True, exist_ok=True)
    for (split, part), file in FILES.items():
        data = idx(arrays(split)[part])
        name = file.name.replace("-idx", ".idx") if dots else file.name
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)


def small(root):
    return MNIST(root, counts=COUNTS, check_bytes=False)


@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("form", [{"compress": True}, {"compress": False}, {"compress": False, "dots": True}])
def test_every_layout_gives_the_same_examples(tmp_path, below, form):
    write_set(tmp_path / below, **form)
    source = small(tmp_path)
    assert isinstance(source, Source)
    assert (source.name, source.kind, len(source)) == ("mnist", "image", 40)
    assert source.classes == tuple("0123456789")
    images = np.concatenate([arrays("train")["images"], arrays("test")["images"]])
    labels = np.concatenate([arrays("train")["labels"], arrays("test")["labels"]])
    np.testing.assert_array_equal(source.labels, labels)
    assert source.labels.dtype == np.int32
    for index, example in enumerate(source):
        np.testing.assert_array_equal(example["image"], images[index][..., None])
        assert example["image"].dtype == np.uint8
        assert example["label"] == labels[index]
        assert example["index"] == index


def test_official_split_and_names(tmp_path):
    write_set(tmp_path)
    source = small(tmp_path)
    assert source.official_split["train"].tolist() == list(range(30))
    assert source.official_split["test"].tolist() == list(range(30, 40))
    assert (source.files[29], source.files[30]) == ("train/00029", "test/00000")
    assert len(set(source.files)) == 40


def test_fingerprint_depends_on_pixels_and_labels(tmp_path):
    write_set(tmp_path / "a")
    write_set(tmp_path / "b", compress=False)
    write_set(tmp_path / "c", compress=False)
    for name, position in (("t10k-images-idx3-ubyte", -1), ("train-labels-idx1-ubyte", 8)):
        data = bytearray((tmp_path / "c" / name).read_bytes())
        data[position] = (data[position] + 1) % 10
        (tmp_path / "c" / name).write_bytes(data)
        assert small(tmp_path / "c").fingerprint != small(tmp_path / "a").fingerprint
    assert small(tmp_path / "a").fingerprint == small(tmp_path / "b").fingerprint


def test_images_are_read_only(tmp_path):
    write_set(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        small(tmp_path)[0]["image"][0, 0, 0] = 1


def test_index_must_be_in_range(tmp_path):
    write_set(tmp_path)
    for index in (-1, 40):
        with pytest.raises(IndexError):
            small(tmp_path)[index]


def test_missing_file_lists_found_and_expected_files(tmp_path):
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError) as caught:
        small(tmp_path)
    found, expected = str(caught.value).split("; expected ")
    assert found.startswith(f"{tmp_path}: MNIST is incomplete, found t10k-images")
    assert "t10k-labels" not in found
    assert "t10k-labels-idx1-ubyte" in expected
    assert expected.endswith("python scripts/prepare_data.py mnist")
    with pytest.raises(DataError, match="found none"):
        small(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("train-images-idx3-ubyte", lambda data: b"\0\0\x09" + data[3:]),  # signed bytes
        ("train-images-idx3-ubyte", lambda data: data[:-1]),
        ("train-images-idx3-ubyte", lambda data: data + b"\0"),
        ("train-labels-idx1-ubyte", lambda data: data[:7] + b"\x1f" + data[8:] + b"\0"),
        ("t10k-labels-idx1-ubyte", lambda data: data[:-1] + b"\x0a"),
        ("t10k-labels-idx1-ubyte", lambda data: b""),
    ],
)
def test_invalid_file_raises(tmp_path, name, change):
    write_set(tmp_path, compress=False)
    path = tmp_path / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=rf"^{path}: .*; copy it again, or run: python"):
        small(tmp_path)


@pytest.mark.parametrize("end", [5, 40, -1])
def test_truncated_or_damaged_gzip_raises(tmp_path, end):
    write_set(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    data = path.read_bytes()
    for damaged in (data[:end], data[:-6] + b"\0" + data[-5:], b"not gzip"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"^{path}: cannot be read or unpacked"):
            small(tmp_path)


def test_official_digests_are_required_by_default(tmp_path):
    write_set(tmp_path)
    with pytest.raises(DataError, match="not an idx file of 60000 x 28 x 28 bytes"):
        MNIST(tmp_path)
    with pytest.raises(DataError, match="not the official bytes"):
        MNIST(tmp_path, counts=COUNTS)


OFFICIAL_FINGERPRINT = "780963255e7bb712a53b7974937170faa9391b4fa0e715960572010870375489"


@pytest.mark.skipif(
    not os.path.isdir(os.path.join(os.environ.get("JAXNETS_DATA", "nowhere"), "mnist")),
    reason="JAXNETS_DATA has no mnist",
)
def test_official_files():
    source = MNIST(os.environ["JAXNETS_DATA"])
    assert len(source) == 70_000
    assert source.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert source.fingerprint == OFFICIAL_FINGERPRINT
    # The published mean of the training pixels, 0.1307 of 255.
    assert round(source.images[source.official_split["train"]].mean() / 255, 4) == 0.1307
