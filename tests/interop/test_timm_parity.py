"""Networks match timm in double precision, where timm's form or names are not torchvision's."""

import json
from collections.abc import Callable

import jax
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from benchmarks.oracles import load
from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.interop import convert
from jaxnets.interop.weights import Weights, flatten

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(900), pytest.mark.usefixtures("x64")]


@pytest.mark.parametrize(
    ("name", "variant", "theirs"),
    [
        ("mobilenet_v2", "torchvision", "mobilenetv2_100"),
        ("efficientnet_b0", "torchvision", "efficientnet_b0"),
        ("efficientnet_b0", "keras", "tf_efficientnet_b0"),
        ("convnext_tiny", None, "convnext_tiny"),
    ],
)
def test_weights_and_logits_match_timm(
    name: str, variant: str | None, theirs: str, record_property: Callable[[str, object], None]
) -> None:
    load("torchvision_import").import_torchvision()
    import timm

    config, shape = config_lib.default_config().model, (75, 75, 3)
    config.update({"name": name, "num_classes": 3, "variant": variant, "dtype": "float64"})
    model = models.create(config)
    variables = load("drawn").variables(model, (1, *shape))
    arrays = convert.to_layout("timm", Weights(variables, config, shape))
    network = timm.create_model(theirs, num_classes=3).double().eval()
    load("networks").load_arrays(network, arrays)
    x = np.random.default_rng(0).normal(size=(2, *shape))
    with torch.no_grad():
        expected = network(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    options = {"xla_backend_optimization_level": 0}
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False), compiler_options=options)(variables, x)
    error = np.abs(np.asarray(ours) - expected).max() / np.abs(expected).max()
    print(f"{name} as timm's {theirs}: logits {error:.1e}")
    assert error < 1e-10

    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    assert convert.recognise(state, None, None) == (name, "timm")
    converted = convert.from_layout("timm", state, config, shape)
    assert converted.missing == converted.unexpected == ()
    for path, leaf in flatten(variables).items():
        np.testing.assert_array_equal(converted.arrays[path], leaf, err_msg=path)
    row = {"library": "timm", "network": name, "variant": variant, "pixels": shape[0]}
    record_property("parity", json.dumps({**row, "errors": {"logits": error}}))
