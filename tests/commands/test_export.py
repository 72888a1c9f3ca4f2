"""Export: a program and weights that run without this package, and a model card."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import pytest
import safetensors.numpy
from jax import export as jax_export
from onnx import reference
from PIL import Image

import jaxnets
from benchmarks.oracles import has_torch, load
from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.commands import export as exporting
from jaxnets.commands import import_weights, model_card
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.experiment import restore as folders
from jaxnets.interop import foreign, timm_folder, weight_files
from jaxnets.interop.foreign import PRESETS, Options
from jaxnets.interop.weights import Preprocessing, Weights, flatten, structure, unflatten, write_weights

LOAD = """
import sys
import jax.export, numpy, safetensors.numpy
program = jax.export.deserialize(open(sys.argv[1] + "/program.stablehlo", "rb").read())
weights = safetensors.numpy.load_file(sys.argv[1] + "/weights.safetensors")
images = numpy.load(sys.argv[1] + "/../images.npy")
for count in (1, 5):
    numpy.save(sys.argv[1] + f"/../logits{count}.npy", program.call(weights, images[:count]))
assert not [name for name in sys.modules if name.startswith(("jaxnets", "flax"))]
"""

EXPORTED = (
    *("lenet5", "alexnet", "resnet18", "resnet50", "vgg16_bn", "inception_v1", "inception_v3"),
    *("inception_resnet_v2", "densenet121", "xception", "nasnet_mobile", "mobilenet_v2", "efficientnet_b0"),
    *("efficientnet_lite0", "convnext_tiny"),
)
"""A network of each family, and of each kind of residual block."""


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exporting.export(trained, tmp_path_factory.mktemp("exported") / "out", layout="torch")


def test_exported_program_gives_the_same_logits_without_jaxnets(trained: Path, exported: Path) -> None:
    network = jaxnets.load(trained, calibrated=False)
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    np.save(exported.parent / "images.npy", images)
    subprocess.run([sys.executable, "-c", LOAD, exported], check=True, cwd=exported.parent)
    expected = network.probabilities(images)
    for count in (1, 5):
        logits = np.load(exported.parent / f"logits{count}.npy")
        np.testing.assert_allclose(jax.nn.softmax(logits), expected[:count], rtol=0, atol=1e-5)
    given = folders.read_weights_or_run(trained)
    assert given.preprocessing is not None
    mean, std = np.float32(given.preprocessing.mean), np.float32(given.preprocessing.std)
    inputs = (images / np.float32(255) - mean) / std
    direct: Any = models.create(given.model).apply(given.variables, inputs, train=False)
    np.testing.assert_allclose(logits, direct, rtol=1e-5, atol=1e-5)


def test_program_runs_on_cpu_and_cuda(exported: Path) -> None:
    program = jax_export.deserialize((exported / exporting.PROGRAMS["stablehlo"]).read_bytes())
    assert program.platforms == ("cpu", "cuda")


def test_exported_folder_predicts_like_the_run(trained: Path, exported: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    run, folder = jaxnets.load(trained), jaxnets.load(exported)
    assert folder.classes == run.classes
    np.testing.assert_array_equal(folder.probabilities(images), run.probabilities(images))


def test_model_card_has_the_results_of_the_run(trained: Path, exported: Path) -> None:
    card = (exported / "README.md").read_text()
    result = json.loads((trained / "result.json").read_text())
    low, high = result["test_interval"]
    for message in (
        "# LeNet-5: lung_resnet:smoke",
        f"{100 * result['test_accuracy']:.2f} % [{100 * low:.2f}, {100 * high:.2f}]",
        "| data | synthetic_tissue |",
        "| split | ",
        "Images are RGB, cropped to the central square",
        "synthetic images",
        *result["model"].split(),
    ):
        assert message.lower().replace("lenet5", "lenet") in card.lower(), message
    assert "None" not in card


def test_layout_torch_writes_pytorch_weights(exported: Path) -> None:
    assert "fc3.weight" in safetensors.numpy.load_file(exported / "torch.safetensors")


def test_second_export_removes_files_of_the_first(trained: Path, tmp_path: Path) -> None:
    exporting.export(trained, tmp_path / "out", layout="torch")
    exporting.export(trained, tmp_path / "out")
    assert not (tmp_path / "out" / "torch.safetensors").exists()
    assert (tmp_path / "out" / "weights.safetensors").is_file()


def test_invalid_exports_raise(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty and not an export"):
        exporting.export(trained, tmp_path)
    with pytest.raises(ConfigError, match="--layout=trch"):
        exporting.export(trained, tmp_path / "new", layout="trch")
    with pytest.raises(ConfigError, match="inception_2015 must be one of torch, timm, .*, keras"):
        exporting.export(trained, tmp_path / "new", layout="inception_2015")
    with pytest.raises(CheckpointError, match="has no lenet5"):
        exporting.export(trained, tmp_path / "new", layout="keras")
    with pytest.raises(CheckpointError, match="neither a weights folder nor a run"):
        exporting.export(tmp_path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_keras_export_round_trip(tmp_path: Path) -> None:
    """Keras's ResNet-50 expects BGR images."""
    caffe = Preprocessing(32, PRESETS["caffe"].mean, PRESETS["caffe"].std)
    weights = _random_weights("resnet50", (32, 32, 3), variant="keras")
    given = dataclasses.replace(weights, preprocessing=caffe)
    write_weights(tmp_path / "given", given)
    exporting.export(tmp_path / "given", tmp_path / "out", layout="keras")
    file = tmp_path / "out" / "keras.safetensors"
    original = flatten(given.variables)
    kernel = safetensors.numpy.load_file(file)["conv1_conv/kernel"]
    np.testing.assert_array_equal(kernel, original["params/conv1/kernel"][:, :, ::-1])
    options = Options(image_size=32)
    imported = import_weights.import_weights(str(file), tmp_path / "imported", options)
    assert imported.preprocessing == given.preprocessing
    for path, array in flatten(imported.variables).items():
        np.testing.assert_array_equal(array, original[path], err_msg=path)


def test_metadata_stores_the_preprocessing() -> None:
    model = config_lib.default_config().model
    model.name, model.variant = "resnet50", "keras"
    for mean, bgr in ((PRESETS["caffe"].mean, True), ((0.5, 0.4, 0.3), False)):
        given = Preprocessing(32, mean, PRESETS["caffe"].std)
        weights = Weights({}, model, (32, 32, 3), preprocessing=given)
        assert foreign.is_bgr("keras", weights) is bgr
        assert not foreign.is_bgr("torch", weights)
        metadata = foreign.to_metadata(given, bgr=bgr)
        assert foreign.from_metadata(metadata) == (given.mean, given.std, bgr)
    assert foreign.from_metadata({}) is None
    with pytest.raises(CheckpointError, match="is damaged"):
        foreign.from_metadata({foreign.METADATA_KEY: "{}"})


def test_export_does_not_overwrite_imported_weights(trained: Path, tmp_path: Path) -> None:
    write_weights(tmp_path / "mine", _random_weights("lenet5", (28, 28, 1)))
    with pytest.raises(ConfigError, match="is not empty and not an export"):
        exporting.export(trained, tmp_path / "mine")


def _random_weights(name: str, shape: tuple[int, ...], **fields: Any) -> Weights:
    """Returns random weights with batch norms far from the identity."""
    model = config_lib.default_config().model
    model.name, model.num_classes, model.auxiliary_heads = name, 3, False
    model.update(fields)
    generator = np.random.default_rng(0)
    arrays = {}
    for path, leaf in structure(model, shape).items():
        if path.endswith(("/var", "/scale")):
            values = generator.uniform(0.5, 1.5, leaf.shape)
        else:
            fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 25
            values = generator.standard_normal(leaf.shape) * np.sqrt(2 / fan_in)  # as He et al.
        arrays[path] = values.astype(np.float32)
    return Weights(unflatten(arrays), model, shape)


def _check_exported_logits(given: Weights) -> None:
    """Asserts that the serialized program and the network agree to 1e-5 of the largest logit."""
    size = given.input_shape[0]
    preprocessing = Preprocessing(size, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    serialized = bytes(exporting.program(given, preprocessing).serialize())
    images = np.random.default_rng(1).integers(0, 256, (2, *given.input_shape), np.uint8)
    logits = jax_export.deserialize(bytearray(serialized)).call(flatten(given.variables), images)
    inputs = (images / np.float32(255) - np.float32((0.4, 0.5, 0.6))) / np.float32((0.2, 0.3, 0.4))
    network = models.create(given.model)
    direct: Any = jax.jit(lambda v, x: network.apply(v, x, train=False))(given.variables, inputs)
    assert np.isfinite(direct).all()
    assert np.abs(direct[0] - direct[1]).max() > 1e-3  # the logits depend on the image
    np.testing.assert_allclose(logits, direct, rtol=0, atol=1e-5 * np.abs(direct).max())


def test_batch_norm_is_exported_correctly() -> None:
    _check_exported_logits(_random_weights("resnet50", (32, 32, 3), stage_sizes=(1, 1), width=4))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_every_network_exports_correctly(name: str) -> None:
    _check_exported_logits(_random_weights(name, (75, 75, 3)))


def test_every_family_is_exported() -> None:
    """Deeper networks of a family have the layers of its shallower ones."""
    images = [entry for entry in map(models.entry, models.REGISTRY) if entry.kind == "image"]
    assert {entry.factory for entry in images} == {models.entry(name).factory for name in EXPORTED}


def test_an_onnx_file_gives_calibrated_probabilities(calibrated: Path, tmp_path: Path) -> None:
    out = exporting.export(calibrated, tmp_path / "out", file_format="onnx")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "model.onnx"]
    session = reference.ReferenceEvaluator(onnx.load(out / "model.onnx"))
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    network: Any = jaxnets.load(calibrated)
    assert network.temperature is not None
    (found,) = session.run(["probabilities"], {"images": images})
    np.testing.assert_allclose(found, network.probabilities(images), atol=1e-5)


def test_a_raw_onnx_file_gives_logits(trained: Path, tmp_path: Path) -> None:
    out = exporting.export(trained, tmp_path / "out", file_format="onnx", raw=True)
    session = reference.ReferenceEvaluator(onnx.load(out / "model.onnx"))
    inputs = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    weights = folders.read_weights_or_run(trained)
    expected: Any = models.create(weights.model).apply(weights.variables, inputs, train=False)
    (logits,) = session.run(["logits"], {"images": inputs})
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_the_metadata_of_an_onnx_file(calibrated: Path, tmp_path: Path) -> None:
    model = onnx.load(exporting.export(calibrated, tmp_path / "out", file_format="onnx") / "model.onnx")
    found = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    result = json.loads((calibrated / "result.json").read_text())
    assert found["classes"] == list(jaxnets.load(calibrated).classes)
    assert found["preprocessing"]["image_size"] == 16
    for name in ("test_accuracy", "test_interval", "temperature"):
        assert found[name] == result[name]
    assert found["leakage"] == result["leakage"]["test"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "onnxruntime.InferenceSession" in card
    assert "Confidences are calibrated: the logits are divided by" in card


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file_format": "onnx", "layout": "torch"}, "--layout=torch is for --format=stablehlo"),
        ({"file_format": "web", "layout": "timm"}, "--layout=timm is for --format=stablehlo"),
        ({"raw": True}, "--raw is for --format=onnx"),
        ({"file_format": "web", "raw": True}, "--raw is for --format=onnx"),
    ],
)
def test_options_of_other_formats_raise(
    trained: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        exporting.export(trained, tmp_path / "out", **options)


@pytest.fixture
def resnet_folder(tmp_path: Path) -> Path:
    """A weights folder of a small network that timm has, in form only."""
    weights = _random_weights("resnet18", (32, 32, 3))
    named = dataclasses.replace(weights, classes=("a", "b: c", "<d>"), temperature=1.5)
    given = Preprocessing(32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "stretch")
    write_weights(tmp_path / "given", dataclasses.replace(named, preprocessing=given))
    return tmp_path / "given"


def _front_matter(card: str) -> dict[str, Any]:
    """Each line has a key, and JSON, which is valid YAML."""
    lines = card.split("---\n")[1].splitlines()
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in lines)}


@pytest.mark.parametrize("name", ["mobilenet_v2", "xception"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_convolution_is_no_depthwise_one(name: str, channels: int) -> None:
    arrays = flatten(_random_weights(name, (75, 75, channels)).variables)
    assert arrays[foreign.first_convolution(arrays, channels)].shape == (3, 3, channels, 32)


def test_a_described_mean_of_fewer_channels_raises(resnet_folder: Path, tmp_path: Path) -> None:
    out = exporting.export(resnet_folder, tmp_path / "out", layout="timm")
    opened = weight_files.open_file(str(out / "model.safetensors"), print)
    described = {"pretrained_cfg": {"mean": [0.5], "std": [0.5]}}
    with pytest.raises(CheckpointError, match="resnet18 has 3 channels, and the described mean or std has"):
        foreign.describe(opened._replace(described=described, source={}), Options(image_size=32))


def test_a_folder_for_timm_describes_the_network(resnet_folder: Path, tmp_path: Path) -> None:
    out = exporting.export(resnet_folder, tmp_path / "out", layout="timm")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((out / "config.json").read_text())
    assert (config["architecture"], config["num_classes"], config["temperature"]) == ("resnet18", 3, 1.5)
    assert config["label_names"] == ["a", "b: c", "<d>"]
    described = config["pretrained_cfg"]
    assert (described["first_conv"], described["classifier"]) == ("conv1", "fc")
    assert (described["crop_mode"], described["crop_pct"], described["input_size"]) == (
        "squash",
        1,
        [3, 32, 32],
    )
    card = (out / "README.md").read_text()
    assert "model-index" not in _front_matter(card)
    assert "license" not in _front_matter(card)
    assert "divide the logits by 1.5" in card
    assert "timm.create_model" in card


def test_a_folder_for_timm_is_imported_again(resnet_folder: Path, tmp_path: Path) -> None:
    out = exporting.export(resnet_folder, tmp_path / "out", layout="timm")
    file, given = str(out / "model.safetensors"), folders.read_weights_or_run(resnet_folder)
    imported = import_weights.import_weights(file, tmp_path / "imported", Options(image_size=32))
    assert imported.preprocessing is not None
    assert given.preprocessing is not None
    assert imported.preprocessing.mean == given.preprocessing.mean
    original = flatten(given.variables)
    for path, array in flatten(imported.variables).items():
        np.testing.assert_array_equal(array, original[path], err_msg=path)


def test_the_front_matter_has_the_result_of_the_run(trained: Path) -> None:
    weights = folders.read_weights_or_run(trained)
    weights = dataclasses.replace(weights, source={**weights.source, "license": "Apache-2.0"})
    result = json.loads((trained / "result.json").read_text())
    result["leakage"]["test"] = 0.25
    assert weights.preprocessing is not None
    card = model_card.describe(weights, weights.preprocessing, result, has_logits=True)
    fields = _front_matter(model_card.to_markdown(card, loading="timm"))
    assert fields["license"] == "apache-2.0"
    assert fields["pipeline_tag"] == "image-classification"
    (index,) = fields["model-index"]
    (measured,) = index["results"]
    (metric,) = measured["metrics"]
    assert measured["dataset"]["type"] == "synthetic_tissue"
    assert metric["value"] == result["test_accuracy"]
    assert "LEAKY" in metric["name"]


def test_exports_replace_each_other_and_nothing_else(resnet_folder: Path, tmp_path: Path) -> None:
    out = exporting.export(resnet_folder, tmp_path / "out")
    exporting.export(resnet_folder, out, layout="timm")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    exporting.export(resnet_folder, out, file_format="onnx")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "model.onnx"]
    downloaded = tmp_path / "downloaded"
    downloaded.mkdir()
    safetensors.numpy.save_file({"fc.weight": np.zeros(3)}, downloaded / "model.safetensors")
    with pytest.raises(ConfigError, match="is not empty and not an export"):
        exporting.export(resnet_folder, downloaded, layout="timm")


def test_a_network_that_timm_lacks_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="timm does not have lenet5: it has resnet18, "):
        exporting.export(trained, tmp_path / "out", layout="timm")
    weights = _random_weights("resnet50", (32, 32, 3), stage_sizes=(1, 1), width=4)
    with pytest.raises(CheckpointError, match="omit --layout=timm"):
        timm_folder.timm_files(weights, Preprocessing(32, (0.5,) * 3, (0.5,) * 3))


def _timm_logits(folder: Path, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """What timm's own transform and network make of an image: the input [H, W, C] and the logits [K]."""
    import torch

    load("torchvision_import").import_torchvision()
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    inputs = transform(image)
    with torch.no_grad():
        return inputs.permute(1, 2, 0).numpy(), model(inputs[None])[0].numpy()


@pytest.mark.oracle
@pytest.mark.skipif(not has_torch(), reason="needs PyTorch and timm")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *((name, {}) for name in timm_folder.ARCHITECTURES if name not in ("xception", "efficientnet_b0")),
        ("xception", {"variant": "timm"}),
        *(("efficientnet_b0", {"variant": variant}) for variant in ("torchvision", "keras")),
        ("inception_v3", {"auxiliary_heads": True}),
    ],
)
def test_timm_loads_every_network_and_computes_the_same(
    name: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    size = 299 if fields.get("auxiliary_heads") else 96
    given = Preprocessing(size, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    weights = dataclasses.replace(_random_weights(name, (size, size, 3), **fields), preprocessing=given)
    write_weights(tmp_path / "given", weights)
    out = exporting.export(tmp_path / "given", tmp_path / "out", layout="timm")
    pixels = np.random.default_rng(1).integers(0, 256, (150, 150, 3), np.uint8)
    inputs, logits = _timm_logits(out, Image.fromarray(pixels))
    network: Any = jaxnets.load(tmp_path / "given")
    ours = network.preprocess.read(pixels)
    np.testing.assert_allclose(inputs, (ours / 255 - given.mean) / given.std, atol=1e-5)
    direct: Any = models.create(weights.model).apply(weights.variables, inputs[None], train=False)
    np.testing.assert_allclose(logits, direct[0], rtol=0, atol=2e-5 * np.abs(direct).max())
