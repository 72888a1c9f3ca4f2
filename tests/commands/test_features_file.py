"""Features of images in a file: their order, labels and groups."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import jaxnets
from jaxnets.commands import predict
from jaxnets.data.groups import Groups
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 images of two classes, and a table of groups of three images."""
    root, source = tmp_path_factory.mktemp("features") / "photos", SyntheticTissue(30, 16)
    members = {}
    for index in range(30):
        name = f"{'ab'[index % 2]}/{index}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source[index]["image"]).save(root / name)
        members[name] = (str(index), f"group {index % 2 + 2 * (index // 6)}")
    Groups("groups", members).write(root.parent / "groups.csv")
    return root


@pytest.fixture(scope="module")
def run(folder: Path, repository: Path, smoke_overrides: dict[str, object]) -> Path:
    own = {name: value for name, value in smoke_overrides.items() if name != "data.num_examples"}
    own |= {"data.path": str(folder), "data.groups": str(folder.parent / "groups.csv")}
    own |= {"data.split": "grouped"}
    config = f"{repository / 'configs' / 'image_folder.py'}:smoke"
    jaxnets.train(config, own, workdir=folder.parent / "run")
    return folder.parent / "run"


def _features(run: Path, paths: list[str], file: Path) -> dict[str, np.ndarray]:
    predict.predict_files(str(run), paths, features_path=str(file))
    with np.load(file) as arrays:
        return dict(arrays)


def test_labels_and_groups_are_those_of_the_run(run: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    found = _features(run, [str(tmp_path / "link")], tmp_path / "new" / "features.npz")
    with (run / "split.csv").open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert list(found) == ["paths", "labels", "groups", "features"]
    names = [path.removeprefix(f"{tmp_path / 'link'}/") for path in found["paths"]]
    assert sorted(names) == sorted(rows)
    assert found["labels"].tolist() == [rows[name]["label"] for name in names]
    assert found["groups"].tolist() == [int(rows[name]["group"]) for name in names]
    assert len(set(found["groups"].tolist())) == 10


def test_features_are_the_mean_of_the_last_feature_map(run: Path, folder: Path, tmp_path: Path) -> None:
    paths = [str(folder / "a" / "0.png"), str(folder / "b" / "1.png")]
    found = _features(run, paths, tmp_path / "features.npz")["features"]
    network = jaxnets.load(run)
    assert isinstance(network, predict.Predictor)
    pixels = np.stack([network.preprocess.read(path) for path in paths])
    maps = network._model.apply(network._variables, network._inputs(pixels), train=False, method="features")
    np.testing.assert_allclose(found, np.asarray(maps).mean((1, 2)), rtol=1e-4, atol=1e-5)
    assert found.dtype == np.float32


def test_the_network_runs_once(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, in_batches = [], predict.Predictor._in_batches

    def count(self: predict.Predictor, apply: Any, *arrays: np.ndarray) -> Any:
        batches.append(len(arrays[0]))
        return in_batches(self, apply, *arrays)

    monkeypatch.setattr(predict.Predictor, "_in_batches", count)
    _features(run, [str(folder)], tmp_path / "features.npz")
    assert batches == [30]


def test_features_are_of_images_without_turns(run: Path, folder: Path) -> None:
    plain, averaging = jaxnets.load(run), jaxnets.load(run, test_time_augmentation=True)
    assert isinstance(plain, predict.Predictor)
    assert isinstance(averaging, predict.Predictor)
    pixels = plain.preprocess.read(folder / "a" / "0.png")[None]
    (expected,), (found,) = (each.classify(pixels, with_features=True) for each in (plain, averaging))
    np.testing.assert_array_equal(found.features, expected.features)
    assert found.confidence == pytest.approx(averaging.probabilities(pixels).max(), rel=1e-5)
    assert plain.classify(pixels)[0].features is None


def test_other_images_have_the_class_of_their_folder(run: Path, folder: Path, tmp_path: Path) -> None:
    for name in ("b/new.png", "elsewhere/other.png"):
        (tmp_path / "more" / name).parent.mkdir(parents=True)
        Image.open(folder / "a" / "0.png").save(tmp_path / "more" / name)
    (tmp_path / "more" / "b" / "text.png").write_text("no image")
    file = tmp_path / "features.npz"
    with pytest.raises(DataError, match="1 of 3 files"):
        predict.predict_files(str(run), [str(tmp_path / "more")], features_path=str(file))
    with np.load(file) as arrays:
        assert arrays["labels"].tolist() == ["b", ""]
        assert arrays["groups"].tolist() == [-1, -1]
        assert len(arrays["features"]) == 2


def test_moved_images_have_no_group(run: Path, folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "moved")
    try:
        found = _features(run, [str(tmp_path / "moved" / "a")], tmp_path / "features.npz")
    finally:
        (tmp_path / "moved").rename(folder)
    assert set(found["labels"].tolist()) == {"a"}
    assert set(found["groups"].tolist()) == {-1}


@pytest.mark.parametrize(
    ("name", "message"), [("features.csv", "must end in .npz"), ("folder.npz", "is a folder")]
)
def test_wrong_names_are_refused(run: Path, folder: Path, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ConfigError, match=message):
        predict.predict_files(str(run), [str(folder)], features_path=str(tmp_path / name))
