"""compare_activations: names the first layer whose outputs differ."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from benchmarks.oracles import load
from jaxnets import config as config_lib
from jaxnets.errors import CheckFailedError, CheckpointError
from jaxnets.interop import convert
from jaxnets.interop.convert import to_layout
from jaxnets.interop.weights import Weights, flatten, structure, unflatten, write_weights
from studies.compare_activations import compare_activations, outputs

SHAPE = (28, 28, 1)
ORDER = ["conv1", "conv2", "dense1", "dense2", "classifier"]


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights]:
    model = config_lib.default_config().model
    model.name, model.num_classes = "lenet5", 10
    generator = np.random.default_rng(0)
    arrays = {
        path: generator.standard_normal(leaf.shape).astype(np.float32)
        for path, leaf in structure(model, SHAPE).items()
    }
    weights = Weights(unflatten(arrays), model, SHAPE)
    folder = tmp_path_factory.mktemp("weights") / "lenet"
    write_weights(folder, weights)
    return folder, weights


def test_identical_weights_have_no_difference(lenet) -> None:
    found = compare_activations(lenet[0], lenet[0])
    assert list(found) == ORDER
    assert max(found.values()) == 0


@pytest.mark.parametrize("layer", ["conv2", "dense2"])
def test_first_differing_layer_is_named(layer: str, lenet, tmp_path: Path) -> None:
    flat = dict(flatten(lenet[1].variables))
    path = f"params/{layer}/kernel"
    flat[path] = flat[path][..., ::-1]
    write_weights(tmp_path, dataclasses.replace(lenet[1], variables=unflatten(flat)))
    with pytest.raises(CheckFailedError, match=f"the first that differs: {layer},"):
        compare_activations(lenet[0], tmp_path)


def test_compares_with_recorded_activations(lenet, tmp_path: Path) -> None:
    inputs = np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)
    recorded = outputs(lenet[1], inputs)
    path = tmp_path / "activations.safetensors"
    two_layers = {name: np.array(recorded[name]) for name in ("conv2", "classifier")}
    safetensors.numpy.save_file({**two_layers, "inputs": inputs}, path)
    assert list(compare_activations(lenet[0], path)) == ["conv2", "classifier"]
    channels_first = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
    conv1 = np.ascontiguousarray(recorded["conv1"].transpose(0, 3, 1, 2))
    torch_names = {"inputs": channels_first, "conv1": conv1, "fc2": np.array(recorded["dense2"])}
    safetensors.numpy.save_file(torch_names, path)
    assert list(compare_activations(lenet[0], path)) == ["conv1", "dense2"]
    torch_names["fc2"][0, 0] += 1 + np.abs(torch_names["fc2"]).max()
    safetensors.numpy.save_file(torch_names, path)
    with pytest.raises(CheckFailedError, match="dense2"):
        compare_activations(lenet[0], path)
    safetensors.numpy.save_file(two_layers, path)
    with pytest.raises(CheckpointError, match="lacks 'inputs'"):
        compare_activations(lenet[0], path)


def test_different_networks_or_input_shapes_raise(lenet, tmp_path: Path) -> None:
    def write(name: str, shape: tuple[int, ...]) -> Path:
        model = config_lib.default_config().model
        model.name, model.num_classes = name, 3
        model.stage_sizes, model.width = (1, 1, 1, 1), 4
        arrays = {path: np.ones(s.shape, s.dtype) for path, s in structure(model, shape).items()}
        write_weights(tmp_path / name, Weights(unflatten(arrays), model, shape))
        return tmp_path / name

    with pytest.raises(CheckpointError, match="is lenet5 and .* is resnet50: compare weights of the same"):
        compare_activations(lenet[0], write("resnet50", (32, 32, 3)))
    with pytest.raises(CheckpointError, match=r"takes inputs \[28, 28, 1\] and .* \[28, 28, 3\]"):
        compare_activations(lenet[0], write("lenet5", (28, 28, 3)))
    with pytest.raises(CheckpointError, match=r"lenet5 does not take .*expects \[20, 20, 1\]"):
        compare_activations(lenet[0], write("lenet5", (20, 20, 1)))


def test_recorded_inputs_of_another_shape_raise(lenet, tmp_path: Path) -> None:
    path = tmp_path / "activations.safetensors"
    inputs = np.zeros((2, 40, 40, 1), np.float32)
    safetensors.numpy.save_file({"inputs": inputs, "conv1": inputs}, path)
    with pytest.raises(CheckpointError, match=r"lenet5 does not take inputs \[2, 40, 40, 1\]"):
        compare_activations(lenet[0], path)


@pytest.mark.oracle
def test_compares_with_pytorch_forward_hooks(lenet, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch_model = load("lenet5").LeNet5(10)
    load("networks").load_arrays(torch_model, to_layout("torch", lenet[1]))
    images = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 1, 28, 28)).astype("f4"))
    path = tmp_path / "activations.safetensors"
    recorded = load("activations").record(torch_model, images)
    safetensors.numpy.save_file(recorded, path)
    assert list(compare_activations(lenet[0], path)) == ORDER


def test_folded_batch_norm_gives_the_same_activations(tmp_path: Path) -> None:
    model = config_lib.default_config().model
    model.name, model.num_classes, model.stage_sizes, model.width = "resnet50", 3, (1, 1, 1, 1), 4
    shape = (32, 32, 3)
    generator = np.random.default_rng(0)
    plain = {
        path: generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        * (generator.choice([-1, 1], leaf.shape) if path.endswith("kernel") else 1)
        / (np.prod(leaf.shape[:-1]) ** 0.5 if path.endswith("kernel") else 1)
        for path, leaf in structure(model, shape).items()
    }
    folded = {path: np.array(array, np.float32) for path, array in plain.items()}
    epsilon = convert.epsilon(model)
    for norm in convert.norms(plain):
        kernel = f"params/{convert.convolution_of(norm)}/kernel"
        scale, bias = (f"params/{norm}/{leaf}" for leaf in ("scale", "bias"))
        mean, var = (f"batch_stats/{norm}/{leaf}" for leaf in ("mean", "var"))
        factor = plain[scale] / np.sqrt(plain[var] + epsilon)
        folded[kernel] = (plain[kernel] * factor).astype(np.float32)
        folded[bias] = (plain[bias] - plain[mean] * factor).astype(np.float32)
        folded[scale], folded[mean] = np.ones_like(factor), np.zeros_like(factor)
        folded[var] = np.full_like(factor, 1 - epsilon)
    for name, arrays, source in (("plain", plain, {}), ("folded", folded, {"folded": 17})):
        given = Weights(unflatten(arrays), model, shape, source=source)
        write_weights(tmp_path / name, given)
    found = compare_activations(tmp_path / "plain", tmp_path / "folded")
    assert len(found) == len(convert.norms(plain)) + 1  # the classifier has no norm
    assert max(found.values()) < 1e-4
