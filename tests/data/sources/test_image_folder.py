import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxnets.data.sources.base import Source
from jaxnets.data.sources.image_folder import ImageFolder, groups_from_names, natural_order
from jaxnets.errors import ConfigError, DataError


def colour(number):
    return (number, 255 - number, 7)


@pytest.fixture
def folder(tmp_path):
    """Creates two classes of mixed formats and sizes; each image has a single colour."""
    root = tmp_path / "photos"
    files = ["cat/a10.png", "cat/a2.PNG", "cat/deep/er/b1.webp", "dog/x.tif", "dog/y.TIFF"]
    for number, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"lossless": True} if path.suffix == ".webp" else {}
        Image.new("RGB", (5 + number, 9), colour(number)).save(path, **options)
    for ignored in ("cat/notes.txt", "dog/deep/Thumbs.db"):
        (root / ignored).parent.mkdir(exist_ok=True)
        (root / ignored).write_text("not an image")
    for hidden in (".git/a.png", "cat/.a1.png", "cat/.cache/a.png", ".DS_Store"):
        (root / hidden).parent.mkdir(exist_ok=True)
        (root / hidden).write_text("hidden")
    (root / "README.md").write_text("next to the classes")
    return root


def test_order_labels_and_examples(folder):
    source = ImageFolder(folder)
    assert isinstance(source, Source)
    assert (source.name, source.kind, source.official_split) == ("image_folder", "image", None)
    assert source.classes == ("cat", "dog")
    assert source.files == ("cat/a2.PNG", "cat/a10.png", "cat/deep/er/b1.webp", "dog/x.tif", "dog/y.TIFF")
    np.testing.assert_array_equal(source.labels, np.array([0, 0, 0, 1, 1], np.int32))
    assert source.labels.dtype == np.int32
    assert source.skipped_files == {"cat": {"TXT": 1}, "dog": {"DB": 1}}
    assert source.describe_skipped() == "2 files skipped: 1 TXT in class cat; 1 DB in class dog"
    numbers = [1, 0, 2, 3, 4]
    for index, number in enumerate(numbers):
        example = source[index]
        assert example["image"].shape == (9, 5 + number, 3)
        assert (example["image"] == colour(number)).all()
        assert example["label"] == source.labels[index]
        assert (example["label"].dtype, example["index"].dtype) == (np.int32, np.int64)
        assert example["index"] == index


def test_index_must_be_in_range(folder):
    source = ImageFolder(folder)
    assert len(list(source)) == len(source) == 5
    assert source[np.int64(4)]["index"] == 4
    for index in (-1, 5):
        with pytest.raises(IndexError):
            source[index]


def test_fingerprint_depends_on_names_and_contents(folder, tmp_path):
    first = ImageFolder(folder).fingerprint
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    assert ImageFolder(copy).fingerprint == first
    (copy / "cat/notes.txt").write_text("ignored files do not count")
    assert ImageFolder(copy).fingerprint == first

    def changed(change):
        shutil.rmtree(copy)
        shutil.copytree(folder, copy)
        change()
        return ImageFolder(copy).fingerprint

    def flip_a_byte():
        data = bytearray((copy / "dog/x.tif").read_bytes())
        data[-1] ^= 1
        (copy / "dog/x.tif").write_bytes(data)

    def swap_two_files():
        (copy / "dog/x.tif").rename(copy / "t")
        (copy / "dog/y.TIFF").rename(copy / "dog/x.tif")
        (copy / "t").rename(copy / "dog/y.TIFF")

    fingerprints = {
        changed(flip_a_byte),
        changed(swap_two_files),
        changed(lambda: (copy / "cat/a2.PNG").rename(copy / "cat/a3.PNG")),
        changed(lambda: (copy / "cat/a2.PNG").rename(copy / "dog/a2.PNG")),
        changed(lambda: (copy / "cat/a2.PNG").unlink()),
        first,
    }
    assert len(fingerprints) == 6


def test_fingerprint_is_computed_once(folder):
    source, other = ImageFolder(folder), ImageFolder(folder)
    fingerprint = source.fingerprint
    (folder / "dog/x.tif").unlink()
    assert source.fingerprint == fingerprint
    with pytest.raises(DataError, match=r"dog/x\.tif: cannot be read"):
        _ = other.fingerprint


def test_unreadable_file_raises(folder):
    (folder / "cat/a10.png").write_bytes(b"")
    source = ImageFolder(folder)
    with pytest.raises(DataError, match=r"a10\.png: the file is empty"):
        source[source.files.index("cat/a10.png")]


def test_non_utf8_file_name_raises(folder):
    (folder / "cat" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"cat/caf\\udce9.png: its name is not UTF-8, .*; rename it"):
        ImageFolder(folder)


def test_max_pixels_is_applied(folder):
    source = ImageFolder(folder, max_pixels=9 * 6)
    assert source[source.files.index("cat/a10.png")]["image"].shape == (9, 5, 3)
    with pytest.raises(DataError, match=r"x\.tif: .*54"):
        source[source.files.index("dog/x.tif")]


def test_missing_folder_or_file_raises(folder):
    with pytest.raises(DataError, match=r"nowhere: does not exist; give a folder"):
        ImageFolder(folder / "nowhere")
    with pytest.raises(DataError, match=r"README\.md: is a file; give a folder"):
        ImageFolder(folder / "README.md")
    (folder / "table.csv").write_text("path,label")
    with pytest.raises(DataError, match=r"is a file; give a folder .*, or set --config\.data\.name=table"):
        ImageFolder(folder / "table.csv")


def test_images_without_class_folders_raise(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.JPG").write_bytes(b"never read")
    with pytest.raises(DataError, match=r"no folder and 3 images directly in it.*into its own folder"):
        ImageFolder(tmp_path)
    (tmp_path / "only").mkdir()
    with pytest.raises(DataError, match=r"one folder \(only\) and 3 images directly in it"):
        ImageFolder(tmp_path)


def test_class_without_images_raises(folder):
    (folder / "emu").mkdir()
    (folder / "emu/list.txt").write_text("")
    with pytest.raises(DataError, match=r"emu: this class's folder has no images and 1 other files; add"):
        ImageFolder(folder)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads every folder")
def test_unreadable_folder_raises(folder):
    (folder / "cat/deep").chmod(0)
    try:
        with pytest.raises(DataError, match=r"deep: cannot be listed"):
            ImageFolder(folder)
    finally:
        (folder / "cat/deep").chmod(0o755)


@given(st.lists(st.text(alphabet="ab01_/", max_size=6)))
def test_natural_order_is_total(names):
    ordered = sorted(names, key=natural_order)
    assert ordered == sorted(reversed(names), key=natural_order)


def test_natural_order_sorts_numbers():
    names = [f"lungaca{number}.jpeg" for number in range(1, 121)]
    assert sorted(sorted(names), key=natural_order) == names
    assert sorted(["a1/b", "a1", "1", "a01", ""], key=natural_order) == ["", "1", "a01", "a1", "a1/b"]


def test_groups_from_names(folder):
    assert ImageFolder(folder).groups is None
    source = ImageFolder(folder, group_pattern=r"/(?:deep/er/)?([a-z])")
    np.testing.assert_array_equal(source.groups, [0, 0, 1, 2, 3])
    two = groups_from_names(["a/x1", "a/y1", "b/x2", "a/x3"], r"^(.)/(.)")
    np.testing.assert_array_equal(two, [0, 1, 2, 0])


def test_group_patterns_that_are_wrong(folder):
    with pytest.raises(DataError, match=r"group_pattern=\^cat\(\.\) does not match dog/x\.tif and 1 others"):
        ImageFolder(folder, group_pattern="^cat(.)")
    with pytest.raises(DataError, match=r"does not match cat/a2.PNG and 4 others"):
        ImageFolder(folder, group_pattern=r"(patient\d+)?")
    with pytest.raises(ConfigError, match=r"is not a regular expression \(missing \)"):
        ImageFolder(folder, group_pattern="(cat")
    with pytest.raises(ConfigError, match="captures nothing: put brackets around"):
        ImageFolder(folder, group_pattern="cat|dog")
