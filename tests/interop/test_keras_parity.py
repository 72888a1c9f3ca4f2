"""Networks match keras.applications in double precision, with weights read from Keras's files."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks.oracles import FOLDER, load
from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.interop import convert, weight_files
from jaxnets.interop.layouts import LAYOUTS
from jaxnets.interop.weights import Weights, flatten, unflatten

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(3600), pytest.mark.usefixtures("x64")]
relative_l2 = load("weights").relative_l2
OPTIONS = {"xla_backend_optimization_level": 0}
"""Compiles faster."""
MOMENTUM = 0.1
"""PyTorch's, of the running statistics."""
slow = pytest.mark.slow  # Keras needs most of a minute for the deepest


@pytest.mark.parametrize(
    ("network", "theirs", "size", "file"),
    [
        ("resnet50", "ResNet50", 64, "all.weights.h5"),
        pytest.param("resnet101", "ResNet101", 64, "model.h5", marks=slow),
        pytest.param("resnet152", "ResNet152", 64, "all.weights.h5", marks=slow),
        pytest.param("vgg16", "VGG16", 224, "all.weights.h5", marks=slow),
        ("xception", "Xception", 74, "all.weights.h5"),
        ("nasnet_mobile", "NASNetMobile", 64, "all.weights.h5"),
        pytest.param("nasnet_mobile", "NASNetMobile", 75, "model.h5", marks=slow),
        ("densenet121", "DenseNet121", 64, "model.h5"),
        ("inception_v3", "InceptionV3", 75, "all.weights.h5"),
        ("mobilenet_v2", "MobileNetV2", 75, "all.weights.h5"),
        ("efficientnet_b0", "EfficientNetB0", 75, "model.h5"),
        ("convnext_tiny", "ConvNeXtTiny", 64, "all.weights.h5"),
        pytest.param("convnext_tiny", "ConvNeXtTiny", 75, "model.h5", marks=slow),
        pytest.param("inception_resnet_v2", "InceptionResNetV2", 75, "model.h5", marks=slow),
        pytest.param("nasnet_mobile", "NASNetMobile", 224, "all.weights.h5", marks=slow),
        pytest.param("convnext_tiny", "ConvNeXtTiny", 224, "model.h5", marks=slow),
        pytest.param("xception", "Xception", 299, "model.h5", marks=slow),
        pytest.param("resnet50", "ResNet50", 224, "model.h5", marks=slow),
        pytest.param("mobilenet_v2", "MobileNetV2", 224, "model.h5", marks=slow),
        pytest.param("efficientnet_b0", "EfficientNetB0", 224, "all.weights.h5", marks=slow),
        pytest.param("densenet121", "DenseNet121", 224, "all.weights.h5", marks=slow),
        pytest.param("inception_v3", "InceptionV3", 299, "model.h5", marks=slow),
        pytest.param("inception_resnet_v2", "InceptionResNetV2", 299, "all.weights.h5", marks=slow),
    ],
)
def test_logits_match_keras(
    network: str,
    theirs: str,
    size: int,
    file: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    config, model, arrays, inputs = _drawn(network, size)
    expected = np.load(_keras(theirs, config, arrays, {"inputs": inputs}, tmp_path, file))

    read = weight_files.read_keras(tmp_path / file)
    converted = convert.from_layout("keras", read, config, inputs.shape[1:])
    assert converted.missing == converted.unexpected == ()
    for path, leaf in arrays.items():
        np.testing.assert_array_equal(converted.arrays[path], leaf, err_msg=path)

    evaluate = jax.jit(lambda v, x: model.apply(v, x, train=False), compiler_options=OPTIONS)
    ours = np.asarray(evaluate(unflatten(converted.arrays), inputs))
    error = np.abs(ours - expected).max() / np.abs(expected).max()
    print(f"{network} {size} of Keras: logits {error:.1e}")
    assert error < 1e-9
    record_property("parity", _row(config, size, {"logits": error}))


@pytest.mark.parametrize(
    ("network", "theirs", "size"),
    [
        pytest.param("nasnet_mobile", "NASNetMobile", 64, marks=slow),
        pytest.param("xception", "Xception", 74, marks=slow),
        pytest.param("nasnet_mobile", "NASNetMobile", 97, marks=slow),
    ],
)
def test_statistics_and_gradient_match_keras(
    network: str, theirs: str, size: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    config, model, arrays, inputs = _drawn(network, size)
    cotangent = np.random.default_rng(1).normal(size=(len(inputs), config.num_classes))
    given = {"inputs": inputs, "cotangent": cotangent}
    expected = dict(np.load(_keras(theirs, config, arrays, given, tmp_path)))

    @functools.partial(jax.jit, compiler_options=OPTIONS)
    def train(variables):
        def loss(params):
            logits, updates = model.apply(
                {**variables, "params": params}, inputs, train=True, mutable=["batch_stats"]
            )
            return (logits * cotangent).sum(), (logits, updates["batch_stats"])

        return jax.grad(loss, has_aux=True)(variables["params"])

    gradient, (logits, statistics) = jax.device_get(train(unflatten(arrays)))
    error = np.abs(logits - expected["logits"]).max() / np.abs(expected["logits"]).max()
    assert error < 1e-9
    form, errors = LAYOUTS["keras"], {}
    for path, ours in flatten({"params": gradient, "batch_stats": statistics}).items():
        collection, _, inner = path.partition("/")
        wanted = expected.pop(str(form.name(network, inner)))
        if collection == "batch_stats":
            ours = (ours - (1 - MOMENTUM) * arrays[path]) / MOMENTUM
        if path.endswith("/var"):  # ours is unbiased: the count is that of the batch's values
            count = round(1 / (1 - np.median(wanted / ours)))
            ours = ours * (count - 1) / count
        errors[path] = relative_l2(form.write(network, inner, ours), wanted)
    worst = max(errors, key=errors.__getitem__)
    print(f"{network} {size} of Keras: in training {error:.1e}, {worst} {errors[worst]:.1e}")
    assert set(expected) == {"logits"}
    assert errors[worst] < 1e-8, worst
    largest = {
        name: max(e for path, e in errors.items() if path.startswith(name))
        for name in ("batch_stats", "params")
    }
    found = {"training": error, "statistics": largest["batch_stats"], "gradient": largest["params"]}
    record_property("parity", _row(config, size, found))


def _row(config: Any, pixels: int, errors: dict[str, float]) -> str:
    """Relative errors for studies/pages/parity_table.py, which reads pytest's XML file."""
    row = {"library": "Keras", "network": config.name, "variant": config.variant, "pixels": pixels}
    return json.dumps({**row, "errors": errors})


def _drawn(network: str, size: int) -> tuple[Any, Any, dict[str, np.ndarray], np.ndarray]:
    """Returns a config's section, its network, random arrays and images."""
    config, names = config_lib.default_config().model, LAYOUTS["keras"].networks[network]
    config.name, config.num_classes, config.dtype = network, 3, "float64"
    config.variant, config.auxiliary_heads = names.variants[0], False
    model = models.create(config)
    arrays = flatten(load("drawn").variables(model, (1, size, size, 3)))
    if not names.has_gamma:
        arrays = {
            path: np.ones_like(leaf) if path.endswith("/scale") else leaf for path, leaf in arrays.items()
        }
    return config, model, arrays, np.random.default_rng(0).normal(size=(2, size, size, 3))


def _keras(
    theirs: str,
    config: Any,
    arrays: dict[str, np.ndarray],
    given: dict[str, np.ndarray],
    folder: Path,
    *file: str,
) -> Path:
    """Runs tests/oracles/keras_logits.py with these weights; returns the path of its output."""
    if importlib.util.find_spec("keras") is None:  # not imported, because its backend is not set
        pytest.skip("needs Keras")
    named = convert.to_layout("keras", Weights(unflatten(arrays), config, given["inputs"].shape[1:]))
    np.savez(folder / "arrays.npz", **given, **named)
    out = "logits.npz" if "cotangent" in given else "logits.npy"
    program = [sys.executable, FOLDER / "keras_logits.py", theirs, "arrays.npz", out, *file]
    environment = {**os.environ, **load("keras_logits").ENVIRONMENT}
    subprocess.run(program, cwd=folder, env=environment, check=True)
    return folder / out
