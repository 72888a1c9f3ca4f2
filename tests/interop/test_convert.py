"""Bit-exact conversion to and from other libraries' layouts, and folded batch norm."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.interop import convert
from jaxnets.interop.convert import recognise
from jaxnets.interop.layouts import LAYOUTS, normalize_torch_names
from jaxnets.interop.weights import Weights, structure, unflatten

KERAS_NAMES = {
    "resnet50": {
        "conv1/bias": "conv1_conv/bias",
        "stage2_block1/projection_norm/bias": "conv3_block1_0_bn/beta",
        "stage4_block3/norm3/var": "conv5_block3_3_bn/moving_variance",
    },
    "resnet101": {"stage3_block23/conv2/kernel": "conv4_block23_2_conv/kernel"},
    "vgg16": {"stage3_conv2/bias": "block3_conv2/bias", "dense1/kernel": "fc1/kernel"},
    "xception": {
        "conv2/norm/mean": "block1_conv2_bn/moving_mean",
        "block4/shortcut/conv/kernel": "conv2d_2/kernel",
        "block13/shortcut/norm/scale": "batch_normalization_3/gamma",
        "block5/sepconv3/depthwise/kernel": "block5_sepconv3/depthwise_kernel",
        "block14_sepconv1/conv/kernel": "block14_sepconv1/pointwise_kernel",
        "block14_sepconv2/norm/bias": "block14_sepconv2_bn/beta",
    },
    "nasnet_mobile": {
        "stem/norm/scale": "stem_bn1/gamma",
        "reduction_stem_2/adjust/conv2/kernel": "adjust_conv_2_stem_2/kernel",
        "normal_7/adjust/conv/kernel": "adjust_conv_projection_7/kernel",
        "normal_0/adjust/norm/var": "adjust_bn_0/moving_variance",
        "reduction_reduce_8/squeeze/conv/kernel": "reduction_conv_1_reduce_8/kernel",
        "normal_12/left5/sepconv2/conv/kernel": "separable_conv_2_normal_left5_12/pointwise_kernel",
        "normal_3/right1/sepconv1/norm/mean": "separable_conv_1_bn_normal_right1_3/moving_mean",
    },
    "densenet121": {
        "norm0/scale": "conv1_bn/gamma",
        "dense_block4/layer16/conv2/kernel": "conv5_block16_2_conv/kernel",
        "dense_block1/layer1/norm1/mean": "conv2_block1_0_bn/moving_mean",
        "transition3/norm/bias": "pool4_bn/beta",
        "norm5/scale": "bn/gamma",
    },
    "inception_v3": {
        "conv1a/conv/kernel": "conv2d/kernel",
        "mixed5b/branch1x1/norm/bias": "batch_normalization_5/beta",
        "mixed7c/branch_pool/conv/kernel": "conv2d_93/kernel",
        "classifier/kernel": "predictions/kernel",
    },
    "inception_resnet_v2": {
        "mixed5b/pooled_conv/conv/kernel": "conv2d_11/kernel",
        "inception_resnet_a1/branch0_conv0/norm/mean": "batch_normalization_12/moving_mean",
        "inception_resnet_c10/branch1_conv2/conv/kernel": "conv2d_202/kernel",
        "inception_resnet_c10/projection/bias": "block8_10_conv/bias",
        "inception_resnet_c9/projection/kernel": "block8_9_conv/kernel",
        "conv7b/norm/var": "conv_7b_bn/moving_variance",
    },
}


def _model(network: str, layout: str = "torch", **fields: Any) -> config_dict.ConfigDict:
    model = config_lib.default_config().model
    model.name, model.num_classes = network, 3
    model.variant = LAYOUTS[layout].networks[network].variants[0]
    model.auxiliary_heads = layout == "torch"
    model.update(fields)
    return model


def _shape(network: str) -> tuple[int, int, int]:
    entry = models.entry(network)
    return (entry.native_size, entry.native_size, entry.channels)


def _random_arrays(model: config_dict.ConfigDict) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        path: np.ones(leaf.shape, leaf.dtype)
        if path.endswith("/scale")
        else generator.standard_normal(leaf.shape).astype(leaf.dtype)
        for path, leaf in structure(model, _shape(model.name)).items()
    }


@pytest.mark.parametrize("network", KERAS_NAMES)
def test_keras_names(network: str) -> None:
    name = functools.partial(LAYOUTS["keras"].name, network)
    assert {path: name(path) for path in KERAS_NAMES[network]} == KERAS_NAMES[network]


def test_dense_layers_of_vgg_in_timm_are_convolutions() -> None:
    arrays = {
        f"{name}.{leaf}": np.random.default_rng(0).normal(size=shape)
        for name, kernel in {
            "pre_logits.fc1": (2, 3, 7, 7),
            "pre_logits.fc2": (4, 2, 1, 1),
            "head.fc": (5, 4),
        }.items()
        for leaf, shape in {"weight": kernel, "bias": kernel[:1]}.items()
    }
    named = normalize_torch_names(arrays)
    assert named.keys() == {f"classifier.{i}.{leaf}" for i in (0, 3, 6) for leaf in ("weight", "bias")}
    first, second = arrays["pre_logits.fc1.weight"], arrays["pre_logits.fc2.weight"]
    np.testing.assert_array_equal(named["classifier.0.weight"], first.reshape(2, 3 * 7 * 7))
    np.testing.assert_array_equal(named["classifier.3.weight"], second[:, :, 0, 0])
    np.testing.assert_array_equal(named["classifier.6.bias"], arrays["head.fc.bias"])


def test_inception_2015_names() -> None:
    form = LAYOUTS["inception_2015"]
    name_of = functools.partial(form.name, "inception_v3")
    paths = structure(_model("inception_v3", "keras"), (299, 299, 3))
    names = [name_of(path.partition("/")[2]) for path in paths if path.endswith("/conv/kernel")]
    assert len(set(names)) == 94
    assert form.networks["inception_v3"].key in names
    for name in ("conv.kernel", "mixed_conv.kernel", "mixed_3_tower_conv_2.kernel"):
        assert name in names
    for path, name in {
        "mixed6b/branch7x7dbl_5": "mixed_4_tower_1_conv_4",
        "mixed7a/branch3x3_2": "mixed_8_tower_conv_1",
        "mixed7a/branch7x7x3_1": "mixed_8_tower_1_conv",
        "mixed7b/branch3x3_2b": "mixed_9_tower_mixed_conv_1",
        "mixed7c/branch3x3dbl_3a": "mixed_10_tower_1_mixed_conv",
        "mixed7c/branch_pool": "mixed_10_tower_2_conv",
    }.items():
        assert name_of(f"{path}/conv/bias") == f"{name}.bias"


FAST = ("lenet5", "resnet50", "inception_v1")
PAIRS = [
    pytest.param(network, layout, marks=[] if network in FAST else [pytest.mark.slow])
    for layout, form in LAYOUTS.items()
    if form.can_export
    for network in form.networks
]


@pytest.mark.parametrize(("network", "layout"), PAIRS)
def test_round_trip_is_bit_exact(network: str, layout: str) -> None:
    model = _model(network, layout)
    arrays = _random_arrays(model)
    theirs = convert.to_layout(layout, Weights(unflatten(arrays), model, _shape(network)))
    assert recognise(theirs, None, None) == (network, layout)
    converted = convert.from_layout(layout, theirs, model, _shape(network))
    assert converted.missing == converted.unexpected == converted.folded == ()
    assert set(converted.arrays) == set(arrays)
    for path, array in arrays.items():
        np.testing.assert_array_equal(converted.arrays[path], array, err_msg=path)


SMALL = {"stage_sizes": (1, 1, 1, 1), "width": 8}
SHAPE = (32, 32, 3)


def _small_resnet(layout: str = "torch") -> tuple[config_dict.ConfigDict, dict[str, np.ndarray]]:
    model = _model("resnet50", layout, **SMALL)
    generator = np.random.default_rng(0)
    arrays = {
        path: (
            generator.uniform(0.5, 1.5, leaf.shape)
            if path.endswith(("/var", "/scale"))
            else 0.1 * generator.standard_normal(leaf.shape)
        ).astype(np.float32)
        for path, leaf in structure(model, SHAPE).items()
    }
    return model, arrays


def _fold(theirs: dict[str, np.ndarray], epsilon: float) -> dict[str, np.ndarray]:
    """Folds batch norm like PyTorch's fuse_conv_bn_eval, for a state dict of ResNet."""
    folded = {}
    for name, weight in theirs.items():
        module, _, leaf = name.rpartition(".")
        if leaf != "weight" or weight.ndim != 4:
            continue
        norm = module.replace("conv", "bn").replace("downsample.0", "downsample.1")
        factor = theirs[f"{norm}.weight"] / np.sqrt(theirs[f"{norm}.running_var"] + epsilon)
        folded[name] = weight * factor[:, None, None, None]
        folded[f"{module}.bias"] = theirs[f"{norm}.bias"] - theirs[f"{norm}.running_mean"] * factor
    return {**folded, "fc.weight": theirs["fc.weight"], "fc.bias": theirs["fc.bias"]}


def test_folded_batch_norm_computes_the_same_function() -> None:
    model, arrays = _small_resnet()
    theirs = convert.to_layout("torch", Weights(unflatten(arrays), model, SHAPE))
    folded = _fold(theirs, epsilon=1e-5)
    converted = convert.from_layout("torch", folded, model, SHAPE)
    assert converted.missing == converted.unexpected == ()
    assert len(converted.folded) == 17
    for path, array in converted.arrays.items():  # the replaced norms scale by exactly 1
        if path.endswith("/var"):
            np.testing.assert_array_equal(array + np.float32(1e-5), np.ones_like(array))
    x = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype(np.float32)
    network = models.create(model)
    apply = jax.jit(lambda variables: network.apply(variables, x, train=False))
    np.testing.assert_allclose(
        apply(unflatten(converted.arrays)), apply(unflatten(arrays)), rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5, 1.001e-5])
def test_variance_of_a_folded_norm_plus_epsilon_is_1(epsilon: float) -> None:
    assert np.float32(1 - epsilon) + np.float32(epsilon) == np.float32(1)


def test_norms_before_a_convolution_are_not_folded() -> None:
    assert convert.convolution_of("dense_block1/layer1/norm1") is None
    assert convert.convolution_of("transition1/norm") is None
    assert convert.convolution_of("norm5") is None
    assert convert.convolution_of("dense_block1/layer1/norm2") == "dense_block1/layer1/conv1"
    assert convert.convolution_of("norm0") == "conv0"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_old_names_and_prefixes_are_normalized(prefix: str) -> None:
    model, arrays = _small_resnet()
    theirs = convert.to_layout("torch", Weights(unflatten(arrays), model, SHAPE))
    wrapped = {f"{prefix}{name}": array for name, array in theirs.items()}
    wrapped[f"{prefix}bn1.num_batches_tracked"] = np.zeros((), np.int64)
    converted = convert.from_layout("torch", normalize_torch_names(wrapped), model, SHAPE)
    assert converted.missing == converted.unexpected == ()
    old = {"features.denseblock1.denselayer2.norm.1.weight": np.zeros(1)}
    assert list(normalize_torch_names(old)) == ["features.denseblock1.denselayer2.norm1.weight"]


def test_missing_and_unexpected_arrays_are_reported() -> None:
    model, arrays = _small_resnet()
    theirs = convert.to_layout("torch", Weights(unflatten(arrays), model, SHAPE))
    del theirs["fc.bias"]
    converted = convert.from_layout("torch", {**theirs, "extra": np.zeros(3)}, model, SHAPE)
    assert converted.missing == ("params/classifier/bias",)
    assert converted.unexpected == ("extra",)
    with pytest.raises(CheckpointError, match=r"of another network: fc.weight is \[256, 5\]"):
        convert.from_layout("torch", {"fc.weight": np.zeros((5, 256))}, model, SHAPE)
    with pytest.raises(CheckpointError, match="fc.weight holds int64"):
        convert.from_layout("torch", {"fc.weight": np.zeros((3, 256), int)}, model, SHAPE)
    with pytest.raises(CheckpointError, match="not of a supported network"):
        recognise({"something": np.zeros(1)}, None, None)


def test_unsupported_variant_raises() -> None:
    model, arrays = _small_resnet()
    given = Weights(unflatten(arrays), model, SHAPE)
    with pytest.raises(
        CheckpointError, match="variant 'keras' of resnet50, and these weights are of 'torchvision'"
    ):
        convert.to_layout("keras", given)
    keras_model, arrays = _small_resnet("keras")
    with pytest.raises(CheckpointError, match="only the variant .* of resnet50"):
        convert.to_layout("torch", Weights(unflatten(arrays), keras_model, SHAPE))
    with pytest.raises(
        CheckpointError, match="'torchvision' of inception_v1, and these weights are of 'paper'"
    ):
        convert.to_layout("torch", Weights({}, _model("inception_v1", variant="paper"), SHAPE))
    for variant in ("pool3", "pool2", None):
        convert.to_layout("torch", Weights({}, _model("alexnet", variant=variant), SHAPE))
    with pytest.raises(ConfigError, match="inception_2015 is import-only"):
        convert.to_layout("inception_2015", given)
    lenet = Weights({}, _model("lenet5"), (28, 28, 1))
    with pytest.raises(CheckpointError, match="has no lenet5"):
        convert.to_layout("keras", lenet)


@pytest.mark.parametrize(
    ("network", "field", "value"),
    [
        ("inception_v3", "truncate_after", "mixed7a"),
        ("resnet50", "stage_sizes", (1, 1, 1, 1)),
        ("resnet50", "width", 8),
        ("lenet5", "activation", "sigmoid"),
    ],
)
def test_modified_architecture_raises(network: str, field: str, value) -> None:
    model = _model(network)
    convert.check_published_form("torch", model)
    model[field] = value
    with pytest.raises(CheckpointError, match=f"one with {field} .*omit --layout=torch"):
        convert.check_published_form("torch", model)


def test_wrong_network_flag_names_the_network_of_the_file() -> None:
    arrays = {"fc3.weight": np.zeros(1)}
    with pytest.raises(ConfigError, match=r"--model=lenet: .* \(did you mean lenet5"):
        recognise(arrays, "lenet", None)
    with pytest.raises(CheckpointError, match="those of lenet5 in the layout torch.*--model=alexnet"):
        recognise(arrays, "alexnet", None)
    with pytest.raises(CheckpointError, match="not --layout=keras: omit that flag"):
        recognise(arrays, None, "keras")
    assert recognise(arrays, "lenet5", "torch") == ("lenet5", "torch")


def test_variants_of_layouts_exist() -> None:
    for form in LAYOUTS.values():
        for network, names in form.networks.items():
            assert set(names.variants) <= set(models.entry(network).variants or (None,))


def test_gamma_without_a_keras_counterpart_raises() -> None:
    model = _model("inception_v3", "keras")
    variables = {"params": {"conv1a": {"norm": {"scale": np.full(32, 2.0)}}}, "batch_stats": {}}
    with pytest.raises(CheckpointError, match="no gamma in inception_v3, but conv1a/norm/scale"):
        convert.to_layout("keras", Weights(variables, model, (299, 299, 3)))


def test_folded_batch_norm_with_convolution_biases() -> None:
    """The convolution biases of Keras's ResNet-50 include the norm's shift after folding."""
    model, arrays = _small_resnet("keras")
    original = convert.to_layout("keras", Weights(unflatten(arrays), model, SHAPE))
    without_norms = {name: array for name, array in original.items() if "_bn/" not in name}
    converted = convert.from_layout("keras", without_norms, model, SHAPE)
    assert converted.missing == converted.unexpected == ()
    assert set(converted.folded) == set(convert.norms(arrays))
    np.testing.assert_array_equal(converted.arrays["params/conv1/bias"], without_norms["conv1_conv/bias"])
    assert not converted.arrays["params/norm1/bias"].any()
