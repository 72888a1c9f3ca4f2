import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from jaxnets.data.sources.base import Source
from jaxnets.data.sources.cifar10 import BATCHES, CIFAR10
from jaxnets.errors import DataError

COUNT = 7


def batch_arrays(number):
    generator = np.random.default_rng(number)
    labels = generator.integers(0, 10, COUNT).astype(np.uint8)
    return labels, generator.integers(0, 256, (COUNT, 3, 32, 32), np.uint8)


def python2_pickle(labels, rows):
    """Returns a pickle like the official ones: Python 2, protocol 2, numpy's old module names."""

    def text(value):
        return b"U" + struct.pack("<B", len(value)) + value

    numbers = b"".join(b"K" + bytes([label]) for label in labels.tolist())
    height, width = (b"M" + struct.pack("<H", size) for size in rows.shape)
    pixels = rows.tobytes()
    return b"".join(
        [
            b"\x80\x02}(",
            text(b"labels") + b"](" + numbers + b"e",
            text(b"data"),
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n",
            b"K\x00\x85" + text(b"b") + b"\x87R(K\x01" + height + width + b"\x86",
            b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R",
            b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89T" + struct.pack("<I", len(pixels)) + pixels + b"tbu.",
        ]
    )


def write_set(folder, version="binary"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(BATCHES):
        labels, images = batch_arrays(number)
        rows = images.reshape(COUNT, -1)
        if version == "binary":
            data = np.concatenate([labels[:, None], rows], axis=1).tobytes()
            (folder / f"{name}.bin").write_bytes(data)
        else:
            (folder / name).write_bytes(python2_pickle(labels, rows))


def small(root):
    return CIFAR10(root, images_per_batch=COUNT, check_bytes=False)


LAYOUTS = [
    ("binary", "."),
    ("binary", "cifar-10-batches-bin"),
    ("binary", "cifar10/cifar-10-batches-bin"),
    ("python", "."),
    ("python", "cifar-10-batches-py"),
]


@pytest.mark.parametrize(("version", "below"), LAYOUTS)
def test_every_layout_gives_the_same_examples(tmp_path, version, below):
    write_set(tmp_path / below, version)
    source = small(tmp_path)
    assert isinstance(source, Source)
    assert (source.name, source.kind, len(source)) == ("cifar10", "image", 6 * COUNT)
    assert source.classes[0] == "airplane"
    assert source.classes[9] == "truck"
    for index, example in enumerate(source):
        number, row = divmod(index, COUNT)
        labels, images = batch_arrays(number)
        np.testing.assert_array_equal(example["image"], np.moveaxis(images[row], 0, -1))
        assert example["label"] == source.labels[index] == labels[row]
        assert example["index"] == index


def test_official_split_and_names(tmp_path):
    write_set(tmp_path)
    source = small(tmp_path)
    assert source.official_split["train"].tolist() == list(range(5 * COUNT))
    assert source.official_split["test"].tolist() == list(range(5 * COUNT, 6 * COUNT))
    assert source.files[COUNT] == "data_batch_2/00000"
    assert source.files[-1] == f"test_batch/{COUNT - 1:05d}"


def test_fingerprint_depends_on_pixels_and_labels(tmp_path):
    write_set(tmp_path / "a")
    write_set(tmp_path / "b", "python")
    write_set(tmp_path / "c")
    assert small(tmp_path / "a").fingerprint == small(tmp_path / "b").fingerprint
    path = tmp_path / "c/data_batch_3.bin"
    for position in (0, -1):
        data = bytearray(path.read_bytes())
        data[position] = (data[position] + 1) % 10
        path.write_bytes(data)
        assert small(tmp_path / "c").fingerprint != small(tmp_path / "a").fingerprint


def test_missing_batch_lists_found_and_expected_files(tmp_path):
    write_set(tmp_path)
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(DataError) as caught:
        small(tmp_path)
    found, expected = str(caught.value).split("; expected ")
    assert "data_batch_3.bin" in found
    assert "data_batch_1 to 5" in expected
    assert "data_batch_4" not in found
    assert expected.endswith("python scripts/prepare_data.py cifar10")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + data[:3073],
        lambda data: b"\x0a" + data[1:],
        lambda data: b"",
    ],
)
def test_invalid_batch_raises(tmp_path, change):
    write_set(tmp_path)
    path = tmp_path / "data_batch_2.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=rf"^{path}: not a CIFAR-10 batch .*; copy it again"):
        small(tmp_path)


class Payload:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_pickled_code_is_not_run(tmp_path):
    write_set(tmp_path, "python")
    path = tmp_path / "data_batch_1"
    trace = tmp_path / "trace"
    attacks = [
        pickle.dumps(Payload(os.mkdir, str(trace)), protocol=2),
        pickle.dumps({b"labels": [], b"data": Payload(eval, f"open({str(trace)!r}, 'w')")}),
        pickle.dumps(Payload(np.load, str(trace))),
        b"cnumpy.testing\nndarray.mro\n(tR.",
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    ]
    for attack in attacks:
        path.write_bytes(attack)
        with pytest.raises(DataError, match=r"data_batch_1: not a CIFAR-10 batch \(it asks for"):
            small(tmp_path)
    assert not trace.exists()


def test_object_arrays_raise(tmp_path):
    write_set(tmp_path, "python")
    path = tmp_path / "data_batch_1"
    path.write_bytes(path.read_bytes().replace(b"U\x02u1", b"U\x02O8"))
    with pytest.raises(DataError, match=r"it asks for numbers of type b'O8'"):
        small(tmp_path)


@pytest.mark.parametrize("version", ["binary", "python"])
def test_official_digests_are_required_by_default(tmp_path, version):
    write_set(tmp_path, version)
    kind = "sha256" if version == "binary" else "md5"
    with pytest.raises(DataError, match=rf"not the official bytes \({kind} differs\)"):
        CIFAR10(tmp_path, images_per_batch=COUNT)


# Of both versions, whose files have the published digests.
OFFICIAL_FINGERPRINT = "b98d92c9e2bfbe800ffdecf275ce2dfa5288373ed111da8f870bb0f2d72ffc3e"


def official(folder):
    return Path(os.environ.get("JAXNETS_DATA", "nowhere")) / "cifar10" / folder


@pytest.mark.parametrize("folder", ["cifar-10-batches-bin", "cifar-10-batches-py"])
def test_official_files(folder):
    if not official(folder).is_dir():
        pytest.skip(f"JAXNETS_DATA has no cifar10/{folder}")
    source = CIFAR10(official(folder))
    assert np.bincount(source.labels[source.official_split["train"]]).tolist() == [5_000] * 10
    assert source.fingerprint == OFFICIAL_FINGERPRINT
    # The published mean of the training pixels.
    mean = source.images[source.official_split["train"]].mean((0, 1, 2)) / 255
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=5e-5)
