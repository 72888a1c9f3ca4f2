"""A user's own image folder end to end: five classes, mixed formats and sizes."""

import csv
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxnets
from jaxnets import config as config_lib
from jaxnets.commands import evaluate, predict
from jaxnets.errors import ConfigError, DataError
from jaxnets.experiment.data import open_dataset, with_cache

COLOURS = {
    "blue": (40, 60, 200),
    "green": (50, 180, 70),
    "grey": (128, 128, 128),
    "red": (200, 40, 50),
    "yellow": (220, 210, 60),
}
FORMATS = ("jpg", "png", "tif", "webp")
OVERRIDES = {"model.name": "lenet5", "data.image_size": 16, "log.tensorboard": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    generator = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for number in range(24):
            size = tuple(generator.integers(17, 60, 2))
            pixels = np.clip(np.array(colour) + generator.normal(0, 12, (*size, 3)), 0, 255)
            path = root / name / f"{name}{number}.{FORMATS[number % 4]}"
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


def test_images_smaller_than_the_network_takes_are_noted(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            pixels = np.full((20, 40, 3), number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    own = {"data.path": str(tmp_path / "images"), "data.root": str(tmp_path), "data.image_size": 40}
    config = config_lib.load_config(str(repository / "configs" / "image_folder.py") + ":scratch", own)
    data = open_dataset(config)
    note = "a/0.png has 20 px, ResNet-50 takes 32 or more: enlarged to 40 px"
    assert with_cache(config, data).source[0]["image"].shape == (40, 40, 3)
    assert note in capsys.readouterr().out
    config.model.name = "lenet5"  # takes 16 px
    with_cache(config, data)
    assert "note" not in capsys.readouterr().out


@pytest.mark.usefixtures("optax_promotion")
def test_a_new_head_on_a_frozen_backbone(
    folder: Path, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(repository / "configs" / "image_folder.py")
    own = {**OVERRIDES, "data.path": str(folder), "data.root": str(tmp_path)}
    own |= {"transfer.weights": "random", "train.epochs": 2}
    begin = time.perf_counter()
    result = jaxnets.train(f"{config}:transfer", own, workdir=tmp_path / "head")
    seconds = time.perf_counter() - begin
    assert (result["freeze_backbone"], result["on_cached_features"]) == (True, True)
    (cache,) = (tmp_path / "cache").glob("*-features-*/cache.json")
    assert result["features_seconds"] == json.loads(cache.read_text())["seconds"]
    assert 0 < result["features_seconds"] < seconds
    assert result["trained_parameters"] < result["parameters"]
    assert "of them trained" in capsys.readouterr().out
    finetuned = config_lib.load_config(f"{config}:finetune", own)
    assert (finetuned.transfer.freeze_backbone, finetuned.transfer.head_only_epochs) == (False, 1)


@pytest.fixture(scope="module")
def config(repository: Path) -> str:
    return str(repository / "configs" / "image_folder.py") + ":smoke"


def test_train_evaluate_predict(
    folder: Path, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {**OVERRIDES, "data.path": str(folder), "data.root": str(tmp_path), "train.epochs": 12}
    result = jaxnets.train(config, overrides, workdir=tmp_path / "run")
    assert result["entry"] is None
    assert result["test_accuracy"] > 0.7
    assert "reported" not in capsys.readouterr().out
    assert evaluate.evaluate(tmp_path / "run")["accuracy"] == result["test_accuracy"]
    predict.predict_files(
        str(tmp_path / "run"), [str(folder)], csv_path=str(tmp_path / "p.csv"), json_path=None
    )
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert len(rows) == 120
    right = np.mean([Path(row["file"]).parent.name == row["class"] for row in rows])
    assert right > 0.7
    assert jaxnets.load(tmp_path / "run").classes == tuple(sorted(COLOURS))


def test_unreadable_images_are_named(folder: Path, config: str, tmp_path: Path) -> None:
    broken = tmp_path / "own"
    for name in ("a", "b"):
        (broken / name).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (20, 20)).save(broken / name / f"{number}.png")
    (broken / "a" / "3.png").write_bytes(b"")
    intact = (folder / "blue" / "blue0.jpg").read_bytes()
    (broken / "b" / "cut.jpg").write_bytes(intact[: len(intact) // 2])
    overrides = {**OVERRIDES, "data.path": str(broken), "data.root": str(tmp_path)}
    with pytest.raises(DataError, match=r"a/3.png.*empty.*\(also \S*b/cut.jpg\)"):
        jaxnets.train(config, overrides, workdir=tmp_path / "run")


def test_a_missing_folder_raises(config: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        jaxnets.train(config, {**OVERRIDES, "data.path": str(tmp_path / "nowhere")}, workdir=tmp_path / "run")
    with pytest.raises(ConfigError, match="data.path"):
        jaxnets.train(config, OVERRIDES, workdir=tmp_path / "run")
