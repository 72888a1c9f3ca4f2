import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets.data.sources.base import Source
from jaxnets.data.sources.image_folder import ImageFolder
from jaxnets.data.sources.lc25000 import LC25000Lung
from jaxnets.errors import DataError

COUNT = 12


def write_set(folder, count=COUNT, size=8):
    """Writes images with all pixels (class, number, 0), as PNG with the official names."""
    for label, (name, stem) in enumerate(
        {"lung_aca": "lungaca", "lung_n": "lungn", "lung_scc": "lungscc"}.items()
    ):
        (folder / name).mkdir(parents=True)
        for number in range(1, count + 1):
            image = Image.new("RGB", (size, size), (label, number, 0))
            image.save(folder / name / f"{stem}{number}.jpeg", "PNG")


@pytest.mark.parametrize("below", ["", "lung_image_sets", "lung_colon_image_set/lung_image_sets"])
def test_every_folder_layout_is_found(tmp_path, below):
    write_set(tmp_path / below)
    (tmp_path / "colon_image_sets/colon_n").mkdir(parents=True)
    source = LC25000Lung(tmp_path, images_per_class=COUNT)
    assert isinstance(source, Source)
    assert (source.name, source.kind, len(source)) == ("lc25000_lung", "image", 3 * COUNT)
    assert source.classes == ("adenocarcinoma", "benign", "squamous cell carcinoma")
    assert source.root == tmp_path / below


def test_order_is_by_class_and_number(tmp_path):
    write_set(tmp_path)
    source = LC25000Lung(tmp_path, images_per_class=COUNT)
    for index, example in enumerate(source):
        label, number = divmod(index, COUNT)
        assert example["image"][0, 0].tolist() == [label, number + 1, 0]
        assert example["label"] == source.labels[index] == label
    assert source.files[0] == "lung_aca/lungaca1.jpeg"
    assert source.files[COUNT + 10] == "lung_n/lungn11.jpeg"


def test_fingerprint_does_not_depend_on_the_folder(tmp_path):
    write_set(tmp_path / "a/lung_image_sets")
    write_set(tmp_path / "b")
    write_set(tmp_path / "c", size=9)
    fingerprints = [LC25000Lung(tmp_path / name, images_per_class=COUNT).fingerprint for name in "abc"]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_complete_set_is_preferred_to_an_incomplete_one(tmp_path):
    write_set(tmp_path / "a_sample", count=3)
    write_set(tmp_path / "b/lung_image_sets")
    source = LC25000Lung(tmp_path, images_per_class=COUNT)
    assert source.root == tmp_path / "b/lung_image_sets"


def test_incomplete_set_lists_found_and_expected_files(tmp_path):
    write_set(tmp_path)
    (tmp_path / "lung_n/lungn3.jpeg").unlink()
    (tmp_path / "lung_n/lungn10.jpeg").unlink()
    for path in (tmp_path / "lung_scc").iterdir():
        path.unlink()
    (tmp_path / "lung_scc").rmdir()
    with pytest.raises(DataError) as caught:
        LC25000Lung(tmp_path, images_per_class=COUNT)
    message = str(caught.value)
    assert "lung_n has 10 of 12 images (lungn3.jpeg is missing)" in message
    assert "lung_scc has 0 of 12 images (lungscc1.jpeg is missing)" in message
    assert "lung_aca" not in message
    assert message.startswith(f"{tmp_path}: ")
    assert re.search(
        r"expected all 12 images per class.*prepare_data\.py lc25000_lung --from=PATH \(or --kaggle\)$",
        message,
    )


def test_most_complete_folder_is_reported(tmp_path):
    write_set(tmp_path / "a", count=2)
    write_set(tmp_path / "b", count=COUNT - 1)
    with pytest.raises(DataError, match=r"b: lung_aca has 11 of 12"):
        LC25000Lung(tmp_path, images_per_class=COUNT)


def test_unexpected_images_raise(tmp_path):
    write_set(tmp_path)
    (tmp_path / "lung_aca/.lungaca1.jpeg").write_text("hidden")
    (tmp_path / "lung_aca/list.txt").write_text("not an image")
    LC25000Lung(tmp_path, images_per_class=COUNT)
    (tmp_path / "lung_aca/lungaca1 (1).jpeg").write_text("")
    with pytest.raises(DataError, match=r"lung_aca has lungaca1 \(1\)\.jpeg, which is not part of the"):
        LC25000Lung(tmp_path, images_per_class=COUNT)


def test_missing_folders_raise(tmp_path):
    with pytest.raises(DataError, match=r"does not contain the folders lung_aca, .*prepare_data\.py"):
        LC25000Lung(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: folder does not exist; expected all 5,000 images"):
        LC25000Lung(tmp_path / "nowhere")


def sample():
    return Path(os.environ.get("JAXNETS_DATA", "nowhere")) / "lc25000_sample_224"


@pytest.mark.skipif(not sample().is_dir(), reason="JAXNETS_DATA has no lc25000_sample_224")
def test_sample_is_not_a_complete_set():
    with pytest.raises(DataError, match=r"lung_aca has 20 of 5,000 images"):
        LC25000Lung(sample())


@pytest.mark.skipif(not sample().is_dir(), reason="JAXNETS_DATA has no lc25000_sample_224")
def test_sample_as_an_image_folder():
    source = ImageFolder(sample())
    assert source.classes == ("lung_aca", "lung_n", "lung_scc")
    assert np.bincount(source.labels).tolist() == [20, 20, 20]
    for index in (0, 59):
        image = source[index]["image"]
        assert image.shape == (224, 224, 3)
        # Stained tissue is pink to violet, with more red than green.
        assert image[..., 0].mean() > image[..., 1].mean()
