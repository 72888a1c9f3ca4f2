"""scripts/import_weights.py: safetensors, Keras, PyTorch and Hugging Face Hub weights."""

import json
import os
import pickle
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.numpy

import jaxnets
from jaxnets import config as config_lib
from jaxnets.commands import import_weights
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.interop import convert, pth, weight_files
from jaxnets.interop.foreign import Options, model_of
from jaxnets.interop.weights import Weights, read_weights, structure, unflatten

SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def state_dict() -> dict[str, np.ndarray]:
    """Returns a LeNet-5 with PyTorch's names."""
    model = config_lib.default_config().model
    model.name, model.num_classes, model.auxiliary_heads = "lenet5", 10, False
    generator = np.random.default_rng(0)
    arrays = {
        path: 0.1 * generator.standard_normal(leaf.shape).astype(np.float32)
        for path, leaf in structure(model, SHAPE).items()
    }
    return convert.to_layout("torch", Weights(unflatten(arrays), model, SHAPE))


@pytest.fixture
def lenet_file(state_dict: dict[str, np.ndarray], tmp_path: Path) -> Path:
    safetensors.numpy.save_file(state_dict, tmp_path / "lenet.safetensors")
    return tmp_path / "lenet.safetensors"


def _import(source: Path | str, destination: Path, **options) -> Weights:
    return import_weights.import_weights(str(source), destination, Options(**options))


def test_imported_weights_predict(
    lenet_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"digit {number}" for number in range(10)) + "\n")
    folder = tmp_path / "lenet"
    imported = _import(lenet_file, folder, preprocessing="half", classes=str(names))
    message = capsys.readouterr().out
    assert "LeNet-5 in the layout of torchvision or timm: 10 arrays match" in message
    assert read_weights(folder).preprocessing == imported.preprocessing
    described = json.loads((folder / "weights.json").read_text())
    assert described["source"]["file"] == "lenet.safetensors"
    assert len(described["source"]["sha256"]) == 64
    network = jaxnets.load(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 1), np.uint8)
    (prediction,) = network.predict(pixels)
    assert prediction.label.startswith("digit ")
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_duplicate_class_names_are_numbered(lenet_file: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\ufeffcrane\n" + "\n".join("bcdefghi") + "\ncrane\n")
    imported = _import(lenet_file, tmp_path / "lenet", preprocessing="half", classes=str(names))
    assert imported.classes == ("crane (0)", *"bcdefghi", "crane (9)")
    names.write_bytes(b"caf\xe9\n" * 10)
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        _import(lenet_file, tmp_path / "other", preprocessing="half", classes=str(names))


def test_loading_weights_without_preprocessing_raises(lenet_file: Path, tmp_path: Path) -> None:
    _import(lenet_file, tmp_path / "lenet")
    with pytest.raises(CheckpointError, match="--preprocessing"):
        jaxnets.load(tmp_path / "lenet")


def test_missing_arrays_raise_unless_partial(
    state_dict: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = {name: array for name, array in state_dict.items() if not name.startswith("fc3.b")}
    path = tmp_path / "part.safetensors"
    safetensors.numpy.save_file({**rest, "extra": np.zeros(3, np.float32)}, path)
    with pytest.raises(CheckpointError, match=r"1 missing and 1 unexpected arrays"):
        _import(path, tmp_path / "part")
    assert not (tmp_path / "part").exists()
    imported = _import(path, tmp_path / "part", partial=True, num_classes=10, preprocessing="half")
    assert imported.missing == ("params/classifier/bias",)
    message = capsys.readouterr().out
    assert "missing   params/classifier/bias" in message
    assert "extra     extra" in message
    with pytest.raises(CheckpointError, match="lacks params/classifier/bias"):
        jaxnets.load(tmp_path / "part")


def test_invalid_files_and_options_raise(
    state_dict: dict[str, np.ndarray], lenet_file: Path, tmp_path: Path
) -> None:
    data = lenet_file.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    (tmp_path / "other.zip").write_bytes(data)
    wrong = {**state_dict, "conv1.weight": np.zeros((6, 1, 3, 3), np.float32)}
    safetensors.numpy.save_file(wrong, tmp_path / "wrong.safetensors")
    for name, message in {
        "cut.safetensors": "not a valid safetensors file",
        "other.zip": "of no known kind|unknown format",
        "absent.safetensors": "is not there|does not exist",
        "wrong.safetensors": r"another network: conv1.weight is \[3, 3, 1, 6\]",
    }.items():
        with pytest.raises(CheckpointError, match=message) as caught:
            _import(tmp_path / name, tmp_path / "new")
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="no array of this network"):
        _import(lenet_file, tmp_path / "new", model="alexnet", layout="torch")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty and not a weights folder"):
        _import(lenet_file, tmp_path / "full")
    for options, message in (
        ({"layout": "troch"}, "did you mean torch"),
        ({"preprocessing": "imagnet"}, "did you mean imagenet"),
        ({"classes": "absent.txt"}, "is not a file"),
        ({"variant": "paper"}, "lenet5 of --layout=torch has no variants"),
        ({"num_classes": 3}, "--num_classes=3, but the file has a classifier of 10 classes: leave"),
    ):
        with pytest.raises(ConfigError, match=message):
            _import(lenet_file, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("given", "expected"), [(None, None), ("pool3", None), ("pool2", "pool2")])
def test_variant_option_selects_the_variant(given: str | None, expected: str | None) -> None:
    model = model_of({}, "alexnet", "torch", Options(variant=given))
    assert model.variant == expected
    with pytest.raises(ConfigError, match="--variant=pool: alexnet of .* has only pool3, pool2"):
        model_of({}, "alexnet", "torch", Options(variant="pool"))


def test_import_does_not_overwrite_another_network(lenet_file: Path, tmp_path: Path) -> None:
    _import(lenet_file, tmp_path / "new")
    _import(lenet_file, tmp_path / "new")
    described = json.loads((tmp_path / "new" / "weights.json").read_text())
    assert described["model"]["name"] == "lenet5"
    other = {"features.10.weight": np.zeros((256, 256, 3, 3), np.float32)}
    safetensors.numpy.save_file(other, tmp_path / "alexnet.safetensors")
    with pytest.raises(ConfigError, match="has weights of lenet5: choose another"):
        _import(tmp_path / "alexnet.safetensors", tmp_path / "new")
    with pytest.raises(CheckpointError, match="is a folder: give the weights file in it"):
        _import(tmp_path / "new", tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["a", "b"]}, "names 2 classes, and the network has 10"),
        ({"preprocessing": {"image_size": "big"}}, "image_size is 'big'"),
        ({"preprocessing": {"mean": [0.5, 0.5]}}, "mean must have one number per channel"),
        ({"preprocessing": {"std": ["wide"]}}, "could not convert"),
        ({"model": {"name": "resnet50"}}, "is of another network|damaged or of another"),
    ],
)
def test_invalid_weights_json_raises(
    change: dict[str, Any], message: str, lenet_file: Path, tmp_path: Path
) -> None:
    _import(lenet_file, tmp_path / "new", preprocessing="half")
    path = tmp_path / "new" / "weights.json"
    described = json.loads(path.read_text())
    for name, value in change.items():
        described[name] = described[name] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path / "new")


class TestKerasFiles:
    def test_keras_3_and_legacy_files_give_the_same_names(self, tmp_path: Path) -> None:
        kernel, gamma = np.ones((3, 3, 1, 2), np.float32), np.arange(2, dtype=np.float32)
        with h5py.File(tmp_path / "a.weights.h5", "w") as file:
            for group, name, arrays in (
                ("conv2d", "conv2d_7", [kernel, gamma]),
                ("batch_normalization", "batch_normalization_3", [gamma, gamma + 1, gamma + 2]),
                ("dense", "predictions", [gamma[:, None], gamma[:1]]),
            ):
                place = file.create_group(f"layers/{group}/vars")
                place.attrs["name"] = name
                for number, array in enumerate(arrays):
                    place[str(number)] = array
            file["optimizer/vars/0"] = gamma
        found = weight_files.read_keras(tmp_path / "a.weights.h5")
        assert set(found) == {
            *("conv2d/kernel", "conv2d/bias", "predictions/kernel", "predictions/bias"),
            "batch_normalization/beta",
            *(f"batch_normalization/moving_{what}" for what in ("mean", "variance")),
        }
        np.testing.assert_array_equal(found["batch_normalization/moving_mean"], gamma + 1)
        with h5py.File(tmp_path / "b.h5", "w") as file:
            file["model_weights/conv2d_1/conv2d_1/kernel:0"] = kernel
            file["model_weights/conv2d_4/net/conv2d_4/kernel"] = kernel + 1
            file["model_weights/optimizer/conv2d_9/kernel"] = kernel
        found = weight_files.read_keras(tmp_path / "b.h5")
        assert set(found) == {"conv2d/kernel", "conv2d_1/kernel"}
        np.testing.assert_array_equal(found["conv2d_1/kernel"], kernel + 1)

    def test_layers_of_nested_models_have_distinct_names(self, tmp_path: Path) -> None:
        kernel, path = np.ones((3, 3, 1, 2), np.float32), tmp_path / "nested.h5"
        with h5py.File(path, "w") as file:
            for number in (1, 2):
                file[f"resnet50/conv2d_{number}/kernel:0"] = kernel * number
            file["dense/dense/kernel:0"] = kernel[0, 0]
        found = weight_files.read_keras(path)
        assert set(found) == {"conv2d/kernel", "conv2d_1/kernel", "dense/kernel"}
        np.testing.assert_array_equal(found["conv2d_1/kernel"], 2 * kernel)
        with h5py.File(path, "a") as file:
            file["other/conv2d_1/kernel:0"] = kernel
        with pytest.raises(CheckpointError, match="conv2d_1/kernel twice"):
            weight_files.read_keras(path)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda f: f.__setitem__("x/k", h5py.ExternalLink("other.h5", "/k")), "a link at x/k"),
            (lambda f: f.__setitem__("x/k", h5py.SoftLink("/y")), "a link at x/k"),
            (lambda f: f.__setitem__("x/x", f["x"]), "nested too deeply"),
            (lambda f: f["x"].create_dataset("k", (2,), "f4", external=[("o.raw", 0, 8)]), "in another file"),
            (lambda f: f.create_group("layers/a/vars").__setitem__("0", [1.0]), "not name its"),
            (lambda f: None, "does not contain weights"),
        ],
    )
    def test_links_and_external_data_raise(self, make, message: str, tmp_path: Path) -> None:
        path = tmp_path / "bad.h5"
        with h5py.File(path, "w") as file:
            file.create_group("x")
            make(file)
        with pytest.raises(CheckpointError, match=message):
            weight_files.read_keras(path)

    def test_truncated_file_raises(self, tmp_path: Path) -> None:
        path = tmp_path / "cut.h5"
        with h5py.File(path, "w") as file:
            file["x/x/kernel"] = np.zeros((64, 64))
        path.write_bytes(path.read_bytes()[:3000])
        with pytest.raises(CheckpointError, match="not a valid HDF5 file"):
            weight_files.read_keras(path)


class _Malicious:
    """Creates a file when unpickled without restrictions."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.oracle
class TestPyTorchFiles:
    def test_state_dict_is_read(self, state_dict: dict[str, np.ndarray], tmp_path: Path) -> None:
        import torch

        tensors = {name: torch.from_numpy(array) for name, array in state_dict.items()}
        moments = [torch.zeros(3), {"step": torch.ones(())}]
        checkpoint = {"state_dict": tensors, "epoch": 3, "optimizer": {"state": moments}}
        for is_zip in (True, False):
            torch.save(checkpoint, tmp_path / "lenet.pth", _use_new_zipfile_serialization=is_zip)
            found = pth.read(tmp_path / "lenet.pth")
            assert set(found) == set(state_dict)
            for name, array in state_dict.items():
                np.testing.assert_array_equal(found[name], array)

    def test_malicious_pickle_does_not_run(self, tmp_path: Path) -> None:
        import torch

        touched = tmp_path / "touched"
        torch.save({"weight": _Malicious(touched)}, tmp_path / "zip.pth")
        (tmp_path / "plain.pth").write_bytes(pickle.dumps(_Malicious(touched)))
        (tmp_path / "cut.pth").write_bytes((tmp_path / "zip.pth").read_bytes()[:200])
        torch.save({"epoch": 3}, tmp_path / "epoch.pth")
        for name in ("zip.pth", "plain.pth", "cut.pth", "epoch.pth", "absent.pth"):
            with pytest.raises(CheckpointError) as caught:
                pth.read(tmp_path / name)
            assert "\n" not in str(caught.value)
        assert not touched.exists()


def _serve(stub: ModuleType, weights: Path, config: Path, text: str) -> None:
    """Makes the stub serve a weights file and a config.json with `text`."""
    config.write_text(text)
    files = {"model.safetensors": weights, "config.json": config}
    stub.list_repo_files = lambda *a, **k: list(files)
    stub.hf_hub_download = lambda repo, name, **k: str(files[name])


class TestHub:
    @pytest.fixture
    def stub(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        """Replaces the module huggingface_hub, installed or not."""
        module = ModuleType("huggingface_hub")
        module.__spec__ = ModuleSpec("huggingface_hub", None)
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)
        return module

    def test_missing_package_names_the_install_command(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr(weight_files.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ConfigError, match="pip install huggingface_hub"):
            _import("hub:timm/lenet", tmp_path / "new")

    def test_preprocessing_and_class_names_come_from_config_json(
        self, lenet_file: Path, tmp_path: Path, stub: ModuleType
    ) -> None:
        config = {
            "architecture": "lenet5",
            "pretrained_cfg": {"mean": [0.1], "std": [0.3], "input_size": [1, 28, 28]},
            "label_names": [f"n{number}" for number in range(10)],
        }
        _serve(stub, lenet_file, tmp_path / "config.json", json.dumps(config))
        imported = _import("hub:owner/lenet@abc", tmp_path / "lenet")
        assert imported.preprocessing is not None
        assert imported.preprocessing.mean == (0.1,)
        assert imported.classes is not None
        assert imported.classes[3] == "n3"
        assert imported.source["hub"] == "owner/lenet"
        assert imported.source["revision"] == "abc"

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"crop_pct": 0.875, "interpolation": "bilinear"}, "crop_pct 0.875, interpolation bil"),
            ({"crop_pct": 0.95, "interpolation": "bicubic"}, "note      crop_pct 0.95 of the"),
            ({"crop_pct": 1.0, "crop_mode": "center"}, None),
        ],
    )
    def test_ignored_crop_settings_are_reported(
        self,
        given: dict[str, Any],
        message: str | None,
        lenet_file: Path,
        tmp_path: Path,
        stub: ModuleType,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        config = {"pretrained_cfg": {"mean": [0.1], "std": [0.3], **given}}
        _serve(stub, lenet_file, tmp_path / "config.json", json.dumps(config))
        imported = _import("hub:owner/lenet", tmp_path / "new")
        printed = capsys.readouterr().out
        assert (message or "saved") in printed
        assert ("of the source ignored" in printed) is bool(message)
        assert len(imported.source["notes"]) == bool(message)

    def test_connection_failure_is_a_one_line_error(self, tmp_path: Path, stub: ModuleType) -> None:
        class ConnectError(Exception):
            """Like httpx's, not an OSError."""

        def fail(*arguments: Any, **options: Any) -> None:
            raise ConnectError("[Errno 111] Connection\nrefused")

        stub.list_repo_files = fail
        with pytest.raises(CheckpointError, match=r"downloaded \(.*refused\): check .* pass its path"):
            _import("hub:timm/lenet", tmp_path / "new")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[1]", "does not describe a network"),
            ('{"pretrained_cfg": [1]}', "does not describe a network"),
            ('{"pretrained_cfg": {"mean": 0.5, "std": 0.5}}', "does not describe a network"),
            ('{"pretrained_cfg": {"input_size": 28}}', "does not describe a network"),
            ('{"pretrained_cfg": {"mean": ["a"], "std": [1]}}', "does not describe a network"),
            ('{"label_names": 3}', "does not describe a network"),
            ('{"architecture": ["lenet5"]}', "does not describe a network"),
            ("{", "is not valid JSON"),
        ],
    )
    def test_invalid_config_json_raises(
        self, text: str, message: str, lenet_file: Path, tmp_path: Path, stub: ModuleType
    ) -> None:
        _serve(stub, lenet_file, tmp_path / "config.json", text)
        with pytest.raises(CheckpointError, match=message):
            _import("hub:owner/lenet", tmp_path / "new")

    def test_repository_without_safetensors_raises(self, tmp_path: Path, stub: ModuleType) -> None:
        stub.list_repo_files = lambda *a, **k: ["pytorch_model.bin"]
        with pytest.raises(CheckpointError, match=r"none of model\.safetensors"):
            _import("hub:owner/lenet", tmp_path / "new")

    @pytest.mark.oracle
    @pytest.mark.slow  # the retries take half a minute
    def test_huggingface_hub_without_connection_exits_with_4(self, repository: Path, tmp_path: Path) -> None:
        pytest.importorskip("huggingface_hub")
        script = str(repository / "scripts" / "import_weights.py")
        done = subprocess.run(
            [sys.executable, script, "hub:timm/lenet", str(tmp_path / "new")],
            env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 4, done.stderr
        assert "could not be downloaded" in done.stderr
        assert "Traceback" not in done.stderr


def test_script_exits_with_4_for_a_damaged_file(lenet_file: Path, repository: Path) -> None:
    lenet_file.write_bytes(lenet_file.read_bytes()[:100])
    script = str(repository / "scripts" / "import_weights.py")
    command = [sys.executable, script, str(lenet_file), "new"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
