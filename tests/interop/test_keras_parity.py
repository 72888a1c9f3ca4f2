"""Logits match keras.applications in double precision, with weights read from Keras's files."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

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
        pytest.param("inception_resnet_v2", "InceptionResNetV2", 75, "model.h5", marks=slow),
        pytest.param("resnet50", "ResNet50", 224, "model.h5", marks=slow),
        pytest.param("densenet121", "DenseNet121", 224, "all.weights.h5", marks=slow),
        pytest.param("inception_v3", "InceptionV3", 299, "model.h5", marks=slow),
        pytest.param("inception_resnet_v2", "InceptionResNetV2", 299, "all.weights.h5", marks=slow),
    ],
)
def test_logits_match_keras(network: str, theirs: str, size: int, file: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("keras") is None:  # not imported, because its backend is not set
        pytest.skip("needs Keras")
    oracle = load("keras_logits")
    config, names = config_lib.default_config().model, LAYOUTS["keras"].networks[network]
    config.name, config.num_classes, config.dtype = network, 3, "float64"
    config.variant, config.auxiliary_heads = names.variants[0], False
    model, shape = models.create(config), (size, size, 3)
    arrays = flatten(load("drawn").variables(model, (1, *shape)))
    if not names.has_gamma:
        arrays = {
            path: np.ones_like(leaf) if path.endswith("/scale") else leaf for path, leaf in arrays.items()
        }
    inputs = np.random.default_rng(0).normal(size=(2, *shape))
    named = convert.to_layout("keras", Weights(unflatten(arrays), config, shape))
    np.savez(tmp_path / "arrays.npz", inputs=inputs, **named)
    program = [sys.executable, FOLDER / "keras_logits.py", theirs, "arrays.npz", "logits.npy", file]
    subprocess.run(program, cwd=tmp_path, env={**os.environ, **oracle.ENVIRONMENT}, check=True)
    expected = np.load(tmp_path / "logits.npy")

    read = weight_files.read_keras(tmp_path / file)
    converted = convert.from_layout("keras", read, config, shape)
    assert converted.missing == converted.unexpected == ()
    for path, leaf in arrays.items():
        np.testing.assert_array_equal(converted.arrays[path], leaf, err_msg=path)

    options = {"xla_backend_optimization_level": 0}
    evaluate = jax.jit(lambda v, x: model.apply(v, x, train=False), compiler_options=options)
    ours = np.asarray(evaluate(unflatten(converted.arrays), inputs))
    error = np.abs(ours - expected).max() / np.abs(expected).max()
    print(f"{network} {size} of Keras: logits {error:.1e}")
    assert error < 1e-9
