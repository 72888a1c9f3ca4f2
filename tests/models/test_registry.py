"""All image networks: parameter counts, smallest inputs, features and head, gradients, initialization."""

import dataclasses
import functools
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from benchmarks.oracles import load
from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import ConfigError
from jaxnets.experiment.network import OUTPUT
from jaxnets.models import resnet

CHANNELS = {"lenet5": 1}


IMAGE_NETWORKS = [name for name, entry in models.REGISTRY.items() if entry.kind == "image"]
SIZES = {"lenet5": 28, "inception_v3": 299}
"""Image sizes with auxiliary heads; the default is 64."""
FAST_TO_TRACE = [
    name if name in ("lenet5", "alexnet", "resnet50") else pytest.param(name, marks=pytest.mark.slow)
    for name in IMAGE_NETWORKS
]
FAST_TO_COMPILE = [
    name if name == "lenet5" else pytest.param(name, marks=pytest.mark.slow) for name in IMAGE_NETWORKS
]
"""Deep networks take minutes to compile; a short ResNet-50 is tested in test_goldens.py."""
slow = functools.partial(pytest.param, marks=pytest.mark.slow)


def _shapes(name: str, classes: int, size: int) -> dict:
    model = models.create(_config(name, classes).model)
    x = jax.ShapeDtypeStruct((2, size, size, CHANNELS.get(name, 3)), jnp.float32)
    return jax.eval_shape(functools.partial(model.init, jax.random.key(0)), x)


def _config(name: str, classes: int):
    config = config_lib.default_config()
    config.model.name, config.model.num_classes = name, classes
    return config


@pytest.mark.parametrize(
    ("name", "classes", "main", "heads", "statistics"),
    [
        ("resnet50", 3, 23_514_179, 0, 53_120),  # torchvision's resnet50, 3 classes
        ("resnet50", 1000, 25_557_032, 0, 53_120),  # and 1000
        # torchvision's resnet18, 34, 101, 152 and vgg16, vgg16_bn
        ("resnet18", 3, 11_178_051, 0, 9_600),
        ("resnet18", 1000, 11_689_512, 0, 9_600),
        ("resnet34", 1000, 21_797_672, 0, 17_024),
        slow("resnet101", 1000, 44_549_160, 0, 105_344),
        slow("resnet152", 1000, 60_192_808, 0, 151_424),
        ("vgg16", 3, 134_272_835, 0, 0),
        ("vgg16", 1000, 138_357_544, 0, 0),
        ("vgg16_bn", 1000, 138_365_992, 0, 8_448),
        slow("xception", 1000, 22_855_952, 0, 54_528),  # timm's legacy_xception and Keras's Xception
        slow("nasnet_mobile", 1000, 5_289_978, 0, 36_738),  # Keras's NASNetMobile
        ("mobilenet_v2", 1000, 3_504_872, 0, 34_112),  # torchvision's mobilenet_v2
        ("efficientnet_b0", 1000, 5_288_548, 0, 42_016),  # torchvision's efficientnet_b0
        ("convnext_tiny", 1000, 28_589_128, 0, 0),  # torchvision's convnext_tiny
        # timm's tf_efficientnet_lite0 to 2
        ("efficientnet_lite0", 1000, 4_652_008, 0, 42_016),
        ("efficientnet_lite1", 1000, 5_416_680, 0, 53_664),
        ("efficientnet_lite2", 1000, 6_092_072, 0, 58_096),
        ("lenet5", 10, 44_426, 0, 0),  # reports C and E
        # torchvision's googlenet and inception_v3 with aux_logits=False, and the auxiliary heads
        ("inception_v1", 3, 5_602_979, 9_939_113 - 5_602_979, (14_560, 15_072)),
        ("inception_v1", 1000, 6_624_904, 13_004_888 - 6_624_904, (14_560, 15_072)),
        ("inception_v3", 3, 21_791_715, 24_351_718 - 21_791_715, (34_432, 36_224)),
        ("inception_v3", 1000, 23_834_568, 27_161_264 - 23_834_568, (34_432, 36_224)),
    ],
)
def test_parameter_and_statistics_counts(name, classes, main, heads, statistics) -> None:
    shapes = _shapes(name, classes, SIZES.get(name, 64))
    count, auxiliary = models.count_parameters, models.auxiliary_part
    assert count(auxiliary(shapes["params"])) == heads
    assert count(shapes["params"]) == main + heads
    stored = shapes.get("batch_stats", {})
    without = count(stored) - count(auxiliary(stored))
    assert (without, count(stored)) == (statistics if heads else (statistics, statistics))


@pytest.mark.parametrize("name", FAST_TO_TRACE)
def test_smallest_input_has_features_and_smaller_ones_raise(name) -> None:
    smallest = models.entry(name).smallest
    models.check_image_size(name, smallest)
    model = models.create(_config(name, 3).model)
    x = jax.ShapeDtypeStruct((2, smallest, smallest, CHANNELS.get(name, 3)), jnp.float32)
    variables = _shapes(name, 3, smallest)
    features = jax.eval_shape(functools.partial(model.apply, train=False, method="features"), variables, x)
    assert features.ndim == 4
    assert min(features.shape) > 0
    logits = jax.eval_shape(functools.partial(model.apply, train=False, method="head"), variables, features)
    assert logits.shape == (2, 3)
    with pytest.raises(ConfigError, match=f"{smallest} pixels or more"):
        models.check_image_size(name, smallest - 1)


@pytest.mark.parametrize("name", FAST_TO_TRACE)
def test_the_number_of_classes_changes_the_output_layers_alone(name) -> None:
    size = SIZES.get(name, 64)
    three, four = (traverse_util.flatten_dict(_shapes(name, classes, size)["params"]) for classes in (3, 4))
    changed = {path for path in three if three[path].shape != four[path].shape}
    assert changed == {path for path in three if OUTPUT in path}


@pytest.mark.parametrize("name", FAST_TO_COMPILE)
class TestEveryImageNetwork:
    def test_call_is_head_of_features(self, name) -> None:
        config = _config(name, 3)
        config.model.stage_sizes, config.model.width = (1, 1, 1, 1), 8
        model = models.create(config.model)
        size = models.entry(name).smallest
        x = np.random.default_rng(0).normal(size=(2, size, size, CHANNELS.get(name, 3)))
        x = jnp.asarray(x, jnp.float32)
        variables = load("drawn").variables(model, x.shape)
        features = model.apply(variables, x, train=False, method="features")
        chex.assert_rank(features, 4)
        logits = model.apply(variables, features, train=False, method="head")
        chex.assert_shape(logits, (2, 3))
        np.testing.assert_array_equal(logits, model.apply(variables, x, train=False))

    def test_every_parameter_has_a_gradient(self, name) -> None:
        config = _config(name, 3)
        config.model.stage_sizes, config.model.width = (1, 1, 1, 1), 8
        config.model.auxiliary_dropout = 0.0
        model = models.create(config.model)
        size = max(SIZES.get(name, 64), models.entry(name).smallest)
        x = np.random.default_rng(0).normal(size=(4, size, size, CHANNELS.get(name, 3)))
        x = jnp.asarray(x, jnp.float32)
        variables = load("drawn").variables(model, x.shape)

        def loss(params):
            outputs, _ = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
            heads = jax.tree.leaves(outputs)  # the logits, and those of auxiliary heads
            return sum(jnp.sum(jax.nn.log_softmax(logits)[:, 0]) for logits in heads)

        gradient = jax.jit(jax.grad(loss))(variables["params"])
        chex.assert_tree_all_finite(gradient)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
            assert float(jnp.abs(leaf).max()) > 0, jax.tree_util.keystr(path)


def test_unknown_network_suggests_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean resnet50"):
        models.create(_config("resnet51", 3).model)


def test_flax_initialization_has_zero_biases() -> None:
    config = _config("lenet5", 10)
    for init, all_zero in (("flax", True), ("torch", False)):
        config.model.init = init
        variables = models.initialize(models.create(config.model), jax.random.key(0), (1, 28, 28, 1))
        assert bool((variables["params"]["classifier"]["bias"] == 0).all()) is all_zero


def test_torch_initialization_is_within_its_bounds() -> None:
    variables = models.initialize(
        models.create(_config("lenet5", 10).model), jax.random.key(0), (1, 28, 28, 1)
    )
    for name, fan_in in (("conv1", 25), ("conv2", 150), ("dense1", 256), ("classifier", 84)):
        for values in variables["params"][name].values():
            assert 0.7 * fan_in**-0.5 < float(jnp.abs(values).max()) <= fan_in**-0.5


def test_resnet_convolutions_are_kaiming_normal_fan_out() -> None:
    config = _config("resnet50", 3)
    config.model.stage_sizes = (1, 1)
    variables = models.initialize(models.create(config.model), jax.random.key(0), (1, 32, 32, 3))
    kernel = variables["params"]["stage2_block1"]["conv2"]["kernel"]
    np.testing.assert_allclose(float(kernel.std()), (2 / (9 * 128)) ** 0.5, rtol=0.01)


def test_networks_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.REGISTRY, "data", dict(models.REGISTRY.data))
    entry = dataclasses.replace(models.entry("lenet5"), title="Mine", smallest=20)
    models.register("mine", entry)
    config = config_lib.default_config()
    config.model.name, config.model.num_classes = "mine", 2
    assert type(models.create(config.model)).__name__ == "LeNet5"
    assert "mine" in list(models.REGISTRY)
    models.register("mine", dataclasses.replace(entry, title="Mine again"))  # such as in a notebook
    assert models.entry("mine").title == "Mine again"
    with pytest.raises(ValueError, match="'lenet5' is a network of jaxnets"):
        models.register("lenet5", entry)


def test_a_module_can_define_several_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = dataclasses.replace(models.entry("resnet50"), fields=("variant",), settings={"width": 8})
    monkeypatch.setattr(resnet, "NARROW", narrow, raising=False)
    monkeypatch.setattr(models.REGISTRY, "data", {**models.REGISTRY.data, "narrow": "resnet:NARROW"})
    model = models.create(_config("narrow", 3).model)
    assert (model.width, model.stage_sizes) == (8, (3, 4, 6, 3))


def test_only_the_module_of_the_network_is_imported() -> None:
    program = (
        "import sys; from jaxnets import config, models\n"
        "c = config.default_config(); c.model.name = 'lenet5'; models.create(c.model)\n"
        "print(*sorted(name for name, entry in models.REGISTRY.data.items() if not isinstance(entry, str)))\n"
        "assert 'jaxnets.models.resnet' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["lenet5"]
