"""Weights folders: round trip and detection of damage."""

import dataclasses
import json
from pathlib import Path

import chex
import numpy as np
import pytest

from jaxnets import config as config_lib
from jaxnets.errors import CheckpointError
from jaxnets.interop.weights import (
    ARRAYS,
    DESCRIPTION,
    Preprocessing,
    Weights,
    flatten,
    is_weights_folder,
    read_weights,
    structure,
    unflatten,
    write_weights,
)

SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def lenet() -> Weights:
    model = config_lib.default_config().model
    model.name, model.num_classes = "lenet5", 10
    generator = np.random.default_rng(0)
    arrays = {
        path: generator.normal(size=leaf.shape).astype(leaf.dtype)
        for path, leaf in structure(model, SHAPE).items()
    }
    return Weights(
        variables=unflatten(arrays),
        model=model,
        input_shape=SHAPE,
        classes=tuple("0123456789"),
        preprocessing=Preprocessing(28, mean=(0.5,), std=(0.25,)),
        source={"file": "drawn"},
    )


def test_write_and_read(lenet: Weights, tmp_path: Path) -> None:
    assert not is_weights_folder(tmp_path)
    write_weights(tmp_path / "new" / "folder", lenet)
    assert is_weights_folder(tmp_path / "new" / "folder")
    restored = read_weights(tmp_path / "new" / "folder")
    chex.assert_trees_all_equal(restored.variables, lenet.variables)
    assert restored.model.to_dict() == lenet.model.to_dict()
    for field in ("input_shape", "classes", "preprocessing", "missing", "source"):
        assert getattr(restored, field) == getattr(lenet, field), field


def test_partial_weights_list_missing_arrays(lenet: Weights, tmp_path: Path) -> None:
    arrays = flatten(lenet.variables)
    missing = ("params/classifier/bias", "params/classifier/kernel")
    rest = {path: leaf for path, leaf in arrays.items() if path not in missing}
    partial = dataclasses.replace(
        lenet, variables=unflatten(rest), missing=missing, classes=None, preprocessing=None
    )
    write_weights(tmp_path, partial)
    restored = read_weights(tmp_path)
    assert restored.missing == missing
    assert restored.classes is restored.preprocessing is None
    assert set(flatten(restored.variables)) == set(rest)
    with pytest.raises(CheckpointError, match=r"is missing params/classifier/bias and 1 more"):
        write_weights(tmp_path, dataclasses.replace(partial, missing=()))


def _change_a_byte(folder: Path) -> None:
    data = bytearray((folder / ARRAYS).read_bytes())
    data[-1] ^= 1
    (folder / ARRAYS).write_bytes(data)


def _change_description(folder: Path, **fields: object) -> None:
    described = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps({**described, **fields}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_change_a_byte, "does not match weights.json"),
        (lambda folder: (folder / ARRAYS).unlink(), "does not match"),
        (lambda folder: (folder / DESCRIPTION).unlink(), "is not a weights folder"),
        (lambda folder: (folder / DESCRIPTION).write_text("{"), "is damaged"),
        (lambda folder: _change_description(folder, format="other"), "does not have the format"),
        (lambda folder: _change_description(folder, model={"nmae": "lenet5"}), "unknown config field"),
        (lambda folder: _change_description(folder, preprocessing={"mean": [0]}), "damaged or from another"),
        (
            lambda folder: _change_description(
                folder, preprocessing={"image_size": 28, "mean": [0], "std": [1], "resize": "bend"}
            ),
            "resize is 'bend', not one of crop, stretch",
        ),
        (lambda folder: _change_description(folder, input_shape=[32, 32, 1]), "dense1/kernel is"),
    ],
)
def test_damaged_folder_raises(damage, message: str, lenet: Weights, tmp_path: Path) -> None:
    write_weights(tmp_path, lenet)
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_weights(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "array", "message"),
    [
        ("params/conv3/kernel", np.zeros(3), "lenet5 has no params/conv3/kernel"),
        ("params/conv1/bias", np.zeros(3), r"params/conv1/bias is \[3\], not \[6\]"),
    ],
)
def test_arrays_of_another_network_raise(path, array, message, lenet, tmp_path) -> None:
    wrong = unflatten({**flatten(lenet.variables), path: array})
    with pytest.raises(CheckpointError, match=message):
        write_weights(tmp_path, dataclasses.replace(lenet, variables=wrong))
    assert not list(tmp_path.iterdir())
