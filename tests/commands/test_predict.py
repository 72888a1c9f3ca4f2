"""Prediction and evaluation from a run directory."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import made_results
import numpy as np
import pytest
from PIL import Image

import jaxnets
from jaxnets.commands import export as exporting
from jaxnets.commands import predict
from jaxnets.commands.evaluate import evaluate
from jaxnets.data import sources
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.errors import CheckpointError, ConfigError, DataError, MachineError
from jaxnets.evaluation import gradcam, statistics
from jaxnets.evaluation.predictions import load_predictions, predictions_name
from jaxnets.experiment.predictor import Predictor, Preprocess
from jaxnets.experiment.restore import restore_state
from jaxnets.experiment.run_directory import open_run


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    source = SyntheticTissue(6, 16, seed=1)
    for index in range(6):
        Image.fromarray(source[index]["image"]).save(folder / f"tile{index}.png")
    return folder


def test_load_and_predict_paths(trained: Path, images: Path) -> None:
    network = jaxnets.load(trained)
    paths = sorted(images.iterdir())
    for path, prediction in zip(paths, network.predict(paths), strict=True):
        assert prediction.label in network.classes, path
        assert prediction.confidence == max(prediction.probabilities.values())
        assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert "probabilities" not in repr(prediction), "1,000 of them fill a terminal"


def test_arrays_and_paths_give_the_same_predictions(trained: Path, images: Path) -> None:
    network = jaxnets.load(trained)
    path = images / "tile3.png"
    pixels = np.asarray(Image.open(path))
    assert network.predict(path) == network.predict(pixels) == network.predict([str(path)])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1", "L", "I;16"])
def test_files_and_pillow_images_give_the_same_pixels(mode: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (20, 16, 4), dtype=np.uint8)
    image = Image.fromarray(values)
    if mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    elif mode != "RGBA":
        image = image.convert("LA" if mode == "LA" else "RGB").convert(mode)
    assert image.mode == mode
    image.save(tmp_path / "a.png")
    preprocess = Preprocess(16, (0.5,) * 3, (0.5,) * 3, "crop", channels=3, max_pixels=10**6)
    np.testing.assert_array_equal(preprocess.read(image), preprocess.read(tmp_path / "a.png"))


def test_a_pillow_image_of_unknown_scale_raises() -> None:
    preprocess = Preprocess(16, (0.5,) * 3, (0.5,) * 3, "crop", channels=3, max_pixels=10**6)
    with pytest.raises(DataError, match="the image: 32-bit or signed numbers"):
        preprocess.read(Image.fromarray(np.zeros((4, 4), np.float32)))


def test_predictions_are_calibrated_on_the_validation_images(
    calibrated: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = images.parent / "calibrated"
    shutil.copytree(calibrated, copy)
    evaluate(copy, part="validation")
    temperature = load_predictions(copy / predictions_name("validation")).fit_temperature()
    assert temperature is not None
    network, raw = jaxnets.load(calibrated), jaxnets.load(calibrated, calibrated=False)
    assert isinstance(network, Predictor)
    assert isinstance(raw, Predictor)
    assert network.temperature == pytest.approx(temperature, rel=1e-4)
    assert raw.temperature is None
    pixels = np.stack([raw.preprocess.read(path) for path in sorted(images.iterdir())])
    expected = statistics.with_temperature(raw.probabilities(pixels), temperature)
    np.testing.assert_allclose(network.probabilities(pixels), expected, rtol=1e-3)
    for options, is_calibrated in (({}, True), ({"calibrated": False}, False)):
        predict.predict_files(str(calibrated), [str(images)], json_path=str(copy / "out.json"), **options)
        assert {row["calibrated"] for row in json.loads((copy / "out.json").read_text())} == {is_calibrated}
        assert ("uncalibrated" in capsys.readouterr().out) is not is_calibrated


@pytest.fixture(scope="module")
def uncertain(smoke_config: str, smoke_overrides: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with 60 validation images, each a group of its own, and the file of `evaluate --ood`."""
    workdir = tmp_path_factory.mktemp("uncertain") / "run"
    jaxnets.train(smoke_config, {**smoke_overrides, "data.num_examples": 400}, workdir=workdir)
    with pytest.raises(CheckpointError, match=r"ood.npz is missing: .*evaluate.py --workdir=.* --ood writes"):
        jaxnets.load(workdir, ood=True)
    evaluate(workdir, ood=True)
    return workdir


def test_prediction_sets_and_ood_scores(
    uncertain: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, plain = jaxnets.load(uncertain, coverage=0.9, ood=True), jaxnets.load(uncertain)
    noise = np.random.default_rng(0).integers(0, 256, size=(16, 16, 3), dtype=np.uint8)
    *ordinary, unusual = network.predict([*sorted(images.iterdir()), noise])
    for path, prediction in zip(sorted(images.iterdir()), ordinary, strict=True):
        (without,) = plain.predict(path)
        assert (without.prediction_set, without.ood_score) == (None, None)
        assert prediction.prediction_set is not None
        assert prediction.prediction_set[0] == prediction.label == without.label
        assert prediction.probabilities == pytest.approx(without.probabilities, abs=1e-5)
        chosen = [prediction.probabilities[name] for name in prediction.prediction_set]
        left = [p for name, p in prediction.probabilities.items() if name not in prediction.prediction_set]
        assert min(chosen) > max(left, default=0)
        assert prediction.ood_score < 0.99
    assert unusual.ood_score == pytest.approx(1 - 1 / 61)

    tables = {"csv_path": str(tmp_path / "out.csv"), "json_path": str(tmp_path / "out.json")}
    predict.predict_files(str(uncertain), [str(images)], coverage=0.9, ood=True, **tables)
    (row, *_), line = json.loads((tmp_path / "out.json").read_text()), capsys.readouterr().out
    assert row["prediction_set"] == list(ordinary[0].prediction_set)
    assert row["ood_score"] == pytest.approx(ordinary[0].ood_score)
    cells = next(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert cells["prediction_set"] == " | ".join(ordinary[0].prediction_set)
    assert f"set: {cells['prediction_set']}  ood {row['ood_score']:.3f}" in line


def test_prediction_sets_contain_the_true_class_of_test_images(
    uncertain: Path, smoke_overrides: dict
) -> None:
    network = jaxnets.load(uncertain, coverage=0.9)
    tested = load_predictions(uncertain / predictions_name())
    source = SyntheticTissue(400, 16)
    predictions = network.predict([source[int(index)]["image"] for index in tested.index])
    covered = [
        network.classes[label] in prediction.prediction_set
        for label, prediction in zip(tested.label, predictions, strict=True)
    ]
    assert np.mean(covered) > 0.8
    sizes = [len(prediction.prediction_set) for prediction in predictions]
    assert np.mean(sizes) > 1  # this network is weak


def test_uncertainty_that_a_run_does_not_have_raises(trained: Path, uncertain: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs 50 groups of validation images, and there are 9") as raised:
        jaxnets.load(trained, coverage=0.9)
    assert raised.value.exit_code == 3
    for coverage in (0.0, 1.0, 90.0, float("nan")):
        with pytest.raises(ConfigError, match="must be between 0 and 1, such as 0.9"):
            jaxnets.load(trained, coverage=coverage)
    with pytest.raises(DataError, match="needs 99 groups of validation images, and there are 60"):
        jaxnets.load(uncertain, coverage=0.99)
    copy = tmp_path / "copy"
    shutil.copytree(uncertain, copy)
    hashes = json.loads((copy / "checksums.json").read_text())["files"]
    assert {"ood.npz", predictions_name("validation")} <= hashes.keys()
    for name in ("checksums.json", predictions_name("validation")):  # of a run of an earlier version
        (copy / name).unlink()
    with pytest.raises(CheckpointError, match=r"--split=validation writes it"):
        jaxnets.load(copy, coverage=0.9, ignore_damage=True)
    exporting.export(uncertain, tmp_path / "weights")
    with pytest.raises(ConfigError, match="--coverage needs a run directory with its validation images"):
        jaxnets.load(tmp_path / "weights", coverage=0.9)


def test_predictions_do_not_depend_on_the_batch_size(trained: Path) -> None:
    network = jaxnets.load(trained)
    source = SyntheticTissue(70, 16, seed=2)
    pixels = [source[i]["image"] for i in range(70)]
    predictions = network.predict(pixels)
    assert len(predictions) == 70
    assert predictions[69] == network.predict(pixels[69])[0]
    assert network.predict([]) == []


def test_predictions_reproduce_the_test_accuracy(trained: Path, smoke_overrides: dict) -> None:
    rows = list(csv.DictReader(io.StringIO((trained / "split.csv").read_text())))
    config = json.loads((trained / "config.json").read_text())["data"]
    source = SyntheticTissue(config["num_examples"], config["image_size"], config["synthetic_seed"])
    tests = [row for row in rows if row["split"] == "test"]
    predictions = jaxnets.load(trained).predict([source[int(row["index"])]["image"] for row in tests])
    correct = sum(p.label == row["label"] for p, row in zip(predictions, tests, strict=True))
    result = json.loads((trained / "result.json").read_text())
    assert correct / len(tests) == result["test_accuracy"]


def test_grey_and_colour_images_are_converted(trained: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (20, 16, 1), dtype=np.uint8)
    network = jaxnets.load(trained)
    (as_grey,), (as_colour,) = network.predict(grey), network.predict(np.repeat(grey, 3, axis=2))
    assert as_grey.probabilities == as_colour.probabilities
    assert network.predict(grey[..., 0]) == [as_grey], "[H, W] is one image, not H images"
    preprocessed = Preprocess(16, (0.5,), (0.5,), "crop", channels=1, max_pixels=10**6).read(
        np.repeat(grey, 3, axis=2)
    )
    np.testing.assert_array_equal(preprocessed, grey[2:18])


@pytest.mark.parametrize("ema", [True, False])
def test_predict_uses_the_tested_weights(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path, ema: bool
) -> None:
    averaged = {**smoke_overrides, "train.ema_decay": 0.9, "eval.ema": ema}
    jaxnets.train(smoke_config, averaged, workdir=tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    source = SyntheticTissue(config["num_examples"], config["image_size"], config["synthetic_seed"])
    tested = load_predictions(tmp_path / "run" / predictions_name())
    pixels = [source[int(index)]["image"] for index in tested.index]
    network = jaxnets.load(tmp_path / "run", calibrated=False)
    probabilities = [list(p.probabilities.values()) for p in network.predict(pixels)]
    np.testing.assert_allclose(probabilities, tested.probabilities, atol=1e-6)
    state = restore_state(open_run(tmp_path / "run")).state
    assert not np.allclose(*(jax.tree.leaves(tree)[0] for tree in (state.ema, state.params)))


def test_invalid_array_raises(trained: Path) -> None:
    with pytest.raises(DataError, match=r"float64\[4, 4, 3\], expected uint8"):
        jaxnets.load(trained).predict(np.zeros((4, 4, 3)))


def test_unreadable_files_are_reported_and_the_rest_predicted(
    trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    good = str(images / "tile0.png")
    with pytest.raises(DataError, match="2 of 3 files could not be read"):
        predict.predict_files(
            str(trained),
            [str(tmp_path), good],
            csv_path=str(tmp_path / "out.csv"),
            json_path=str(tmp_path / "out.json"),
        )
    message = capsys.readouterr()
    assert "empty.jpg  not read" in message.err
    assert "text.jpg  not read" in message.err
    assert good in message.out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [bool(row["error"]) for row in rows] == [True, True, False]
    stored = json.loads((tmp_path / "out.json").read_text())
    assert stored[2]["class"] == rows[2]["class"]


def test_interrupted_prediction_writes_the_finished_rows(
    trained: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(map(str, images.iterdir()))
    print_row, printed = predict._print, []

    def interrupted(row: dict) -> None:
        print_row(row)
        printed.append(row)
        if len(printed) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(predict, "_print", interrupted)
    table = tmp_path / "new" / "table.csv"
    with pytest.raises(KeyboardInterrupt):
        predict.predict_files(str(trained), paths, csv_path=str(table))
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [row["file"] for row in rows] == paths[:3]


def test_invalid_output_paths_raise(trained: Path, images: Path, tmp_path: Path) -> None:
    path = images / "tile0.png"
    before = path.read_bytes()
    for table in (path, tmp_path / "other.jpg"):
        with pytest.raises(ConfigError, match="is an image"):
            predict.predict_files(str(trained), [str(path)], csv_path=str(table))
    assert path.read_bytes() == before
    with pytest.raises(MachineError, match="cannot be created"):
        predict.predict_files(str(trained), [str(path)], json_path=str(path / "x" / "t.json"))
    with pytest.raises(ConfigError, match="both write to standard output"):
        predict.predict_files(str(trained), [str(path)], csv_path="-", json_path="-")
    both = str(tmp_path / "table")
    with pytest.raises(ConfigError, match="would both write"):
        predict.predict_files(str(trained), [str(path)], csv_path=both, json_path=both)


def test_folder_without_images_is_reported_and_the_rest_predicted(
    trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / name for name in ("empty", "full")]
    for folder in folders:
        folder.mkdir()
        (folder / "._tile.png").write_bytes(b"a macOS resource fork")
        (folder / "notes.txt").write_text("not an image")
        (folder / ".thumbnails").mkdir()
        shutil.copy(images / "tile0.png", folder / ".thumbnails" / "small.png")
    shutil.copy(images / "tile1.png", folders[1] / "tile.png")
    path = tmp_path / "out.json"
    with pytest.raises(DataError, match="1 of 2 files could not be read"):
        predict.predict_files(str(trained), list(map(str, folders)), json_path=str(path))
    rows = json.loads(path.read_text())
    assert [row["file"] for row in rows] == [str(folders[0]), str(folders[1] / "tile.png")]
    assert [row["class"] is None for row in rows] == [True, False]
    message = capsys.readouterr()
    assert f"{folders[0]}  not read  contains no image" in message.err
    assert f"2 files other than JPEG, PNG, TIFF and WebP: {folders[0] / 'notes.txt'}, " in message.out


def _predict_with_overlays(trained: Path, folder: Path, *paths: Path) -> None:
    predict.predict_files(str(trained), list(map(str, paths)), gradcam_folder=folder)


def test_one_overlay_is_written_per_image(trained: Path, images: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    (given / "deeper").mkdir(parents=True)
    for path in (given / "tile.png", given / "deeper" / "tile.png"):
        Image.open(images / "tile0.png").resize((300, 400)).save(path)
    (given / "broken.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 3"):
        predict.predict_files(
            str(trained),
            [str(given)],
            json_path=str(tmp_path / "out.json"),
            gradcam_folder=tmp_path / "overlays",
        )
    rows = {row["file"]: row for row in json.loads((tmp_path / "out.json").read_text())}
    for name in ("tile.png", "deeper/tile.png"):
        path = Path(rows[str(given / name)]["gradcam"])
        assert path == tmp_path / "overlays" / f"{name}.gradcam.png"
        with Image.open(path) as drawn:
            assert drawn.size == (300, 300)
    assert "gradcam" not in rows[str(given / "broken.jpg")]
    assert len(list((tmp_path / "overlays").rglob("*"))) == 3


def test_overlays_do_not_overwrite_other_files(trained: Path, images: Path, tmp_path: Path) -> None:
    other = tmp_path / "tile0.png.gradcam.png"
    other.write_bytes((images / "tile5.png").read_bytes())
    (tmp_path / "tile1.png.gradcam.png").write_text("not an image")
    for _ in range(2):
        _predict_with_overlays(trained, tmp_path, images / "tile0.png", images / "tile1.png")
    assert other.read_bytes() == (images / "tile5.png").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {
        "tile0.png.gradcam.png",
        "tile0.png-2.gradcam.png",
        "tile1.png.gradcam.png",
        "tile1.png-2.gradcam.png",
    }


def test_coarse_feature_map_is_reported(
    trained: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert jaxnets.load(trained).map_size == (2, 2)
    given = [str(images / "tile0.png")]
    predict.predict_files(str(trained), given, gradcam_folder=tmp_path / "maps")
    assert "; the last feature map is only 2x2, too coarse" in capsys.readouterr().out
    monkeypatch.setattr(gradcam, "MIN_SIDE", 2)
    predict.predict_files(str(trained), given, gradcam_folder=tmp_path / "maps")
    assert "last feature map" not in capsys.readouterr().out
    with pytest.raises(ConfigError, match="is a folder: give a file"):
        predict.predict_files(str(trained), [str(images)], csv_path=str(tmp_path))


def test_predictions_of_medical_data_have_a_disclaimer(
    trained: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given, out = [str(images / "tile0.png")], tmp_path / "export"
    predict.predict_files(str(trained), given)
    exporting.export(trained, out)
    assert sources.DISCLAIMER not in capsys.readouterr().out + (out / "README.md").read_text()
    monkeypatch.setattr(sources, "MEDICAL", {"synthetic_tissue"})
    exporting.export(trained, out)
    assert f"**{sources.DISCLAIMER}** It was not" in (out / "README.md").read_text()
    for directory in (trained, out):
        capsys.readouterr()
        predict.predict_files(str(directory), given)
        assert capsys.readouterr().out.endswith(f"note      {sources.DISCLAIMER}\n")


def test_no_images_raises(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give images"):
        predict.predict_files(str(trained), [], csv_path=None, json_path=None)
    with pytest.raises(DataError, match="contains no image"):
        predict.predict_files(str(trained), [str(tmp_path)], csv_path=None, json_path=None)


def test_loading_another_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a run directory"):
        jaxnets.load(tmp_path)


def test_loading_a_network_without_prefix_names_its_weights() -> None:
    with pytest.raises(CheckpointError, match="did you mean imagenet:efficientnet_lite0"):
        jaxnets.load("efficientnet_lite0")


def test_loading_a_folder_of_runs_names_one(trained: Path) -> None:
    with pytest.raises(
        CheckpointError, match=f"contains runs and is not a run: choose one, such as {trained.parent}"
    ):
        jaxnets.load(trained.parent)


def test_run_without_checkpoint_raises(trained: Path, tmp_path: Path) -> None:
    names = ("config.json", "manifest.json")
    made_results.write_files(tmp_path, {name: (trained / name).read_bytes() for name in names})
    with pytest.raises(CheckpointError, match="no valid checkpoint"):
        jaxnets.load(tmp_path)


def test_ignore_damage_uses_an_earlier_step_with_a_warning(
    trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    older, tested = sorted((run / "checkpoints").iterdir())[-2:]
    host_state = tested / "host_state.json"
    host_state.write_text(host_state.read_text().replace("0", "1", 1))
    error = f"host_state.json has changed.*use step {int(older.name)} instead with --ignore_damage"
    image = str(images / "tile0.png")
    for command in (
        lambda: jaxnets.load(run),
        lambda: predict.predict_files(str(run), [image], csv_path="-"),
        lambda: evaluate(run),
        lambda: exporting.export(run, tmp_path / "out"),
    ):
        with pytest.raises(CheckpointError, match=error):
            command()
    assert not (tmp_path / "out").exists()
    message = f"step {int(tested.name)}, which result.json .* is damaged .*: using step {int(older.name)}"
    with pytest.warns(UserWarning, match=message):
        jaxnets.load(run, ignore_damage=True)
    predict.predict_files(str(run), [image], csv_path="-", ignore_damage=True)
    assert re.search(message, capsys.readouterr().err)
    evaluate(run, ignore_damage=True)
    assert re.search(message, capsys.readouterr().err)
    exporting.export(run, tmp_path / "out", ignore_damage=True)
    assert re.search(message, capsys.readouterr().err)
    assert re.search(message, (tmp_path / "out" / exporting.CARD).read_text())


def test_non_finite_outputs_raise(trained: Path) -> None:
    network = jaxnets.load(trained)
    network._variables = jax.tree.map(lambda values: values * np.nan, network._variables)
    pixels = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(CheckpointError, match="outputs are not finite: its weights are damaged"):
        network.predict(pixels)


def test_csv_cells_are_not_formulas(tmp_path: Path) -> None:
    names = ["=cmd|' C'!A0.png", "+1.png", "-1.png", "@a.png"]
    tables = predict._Tables(["=a", "b"], str(tmp_path / "table.csv"), None, [])
    tables.rows += [{"file": name, "class": "=a", "confidence": -0.5} for name in names]
    tables.write()
    rows = (tmp_path / "table.csv").read_text().splitlines()
    assert rows[0] == "file,class,confidence,calibrated,error,'=a,b"
    assert rows[1:] == [f"'{name},'=a,-0.5,,,," for name in names]


def test_csv_columns_have_different_names(tmp_path: Path) -> None:
    """ImageNet has a class "file", whose probability csv.DictReader would return as the file's name."""
    tables = predict._Tables(["file", "b"], str(tmp_path / "table.csv"), None, [])
    tables.rows += [{"file": "a.png", "class": "b", "probabilities": {"file": 0.25, "b": 0.75}}]
    tables.write()
    with (tmp_path / "table.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["file"], row["file (probability)"], row["b"]) == ("a.png", "0.25", "0.75")


def test_long_and_non_utf8_file_names(
    trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["x" * 251 + ".png", "x" * 250 + "y.png", os.fsdecode(b"caf\xe9.png")]
    (tmp_path / "set").mkdir()
    for number, name in enumerate(names):
        shutil.copy(images / f"tile{number}.png", tmp_path / "set" / name)
    for csv_path in (str(tmp_path / "p.csv"), "-"):
        predict.predict_files(
            str(trained), [str(tmp_path / "set")], csv_path=csv_path, gradcam_folder=tmp_path / "overlays"
        )
    assert len(os.listdir(tmp_path / "overlays")) == 3
    assert (tmp_path / "p.csv").read_text() in capsys.readouterr().out
    assert r"caf\udce9.png" in (tmp_path / "p.csv").read_text()


@pytest.mark.slow
def test_unwritable_home_prints_no_warning(
    trained: Path, images: Path, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").write_text("not a folder")
    environment = {**os.environ, "HOME": str(tmp_path / "home")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "scripts/predict.py", f"--workdir={trained}", str(images)],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("predict ") for line in done.stderr.splitlines()), done.stderr
