"""Conversion to and from PyTorch names and layouts."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from benchmarks import jax_model
from benchmarks.oracles import load
from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.interop import convert
from jaxnets.interop.convert import to_torch
from jaxnets.interop.layouts import TORCH, normalize_torch_names
from jaxnets.interop.weights import Weights, flatten

from_torch = load("weights").from_torch
SIZES = {"lenet5": 28, "inception_v3": 299}
NAMES = {
    "lenet5": {"dense1/kernel": "fc1.weight", "conv2/bias": "conv2.bias"},
    "resnet50": {
        "norm1/mean": "bn1.running_mean",
        "stage2_block1/projection/kernel": "layer2.0.downsample.0.weight",
        "stage4_block3/norm3/scale": "layer4.2.bn3.weight",
    },
    "vgg16": {
        "stage1_conv2/bias": "features.2.bias",
        "stage5_conv3/kernel": "features.28.weight",
        "dense2/kernel": "classifier.3.weight",
        "classifier/bias": "classifier.6.bias",
    },
    "vgg16_bn": {
        "stage2_conv1/kernel": "features.7.weight",
        "stage5_norm3/mean": "features.41.running_mean",
        "dense1/kernel": "classifier.0.weight",
    },
    "xception": {
        "conv2/norm/var": "bn2.running_var",
        "block2/sepconv1/depthwise/kernel": "block1.rep.0.conv1.weight",
        "block2/sepconv2/norm/scale": "block1.rep.4.weight",
        "block5/sepconv3/conv/kernel": "block4.rep.7.pointwise.weight",
        "block13/shortcut/norm/bias": "block12.skipbn.bias",
        "block14_sepconv2/conv/kernel": "conv4.pointwise.weight",
        "block14_sepconv1/norm/mean": "bn3.running_mean",
    },
    "inception_v1": {
        "conv2_reduce/conv/kernel": "conv2.conv.weight",
        "conv2/norm/var": "conv3.bn.running_var",
        "inception4c/conv5x5/norm/bias": "inception4c.branch3.1.bn.bias",
        "inception5b/pool_projection/conv/kernel": "inception5b.branch4.1.conv.weight",
        "auxiliary2/conv/norm/mean": "aux2.conv.bn.running_mean",
        "auxiliary1/dense/kernel": "aux1.fc1.weight",
        "auxiliary1/classifier/bias": "aux1.fc2.bias",
        "classifier/kernel": "fc.weight",
    },
    "mobilenet_v2": {
        "stem/norm/mean": "features.0.1.running_mean",
        "stage1_block1/depthwise/conv/kernel": "features.1.conv.0.0.weight",
        "stage1_block1/project/norm/scale": "features.1.conv.2.weight",
        "stage2_block1/expand/norm/var": "features.2.conv.0.1.running_var",
        "stage7_block1/project/conv/kernel": "features.17.conv.2.weight",
        "last/conv/kernel": "features.18.0.weight",
        "classifier/bias": "classifier.1.bias",
    },
    "efficientnet_b0": {
        "stage1_block1/squeeze_excitation/expand/bias": "features.1.0.block.1.fc2.bias",
        "stage2_block2/expand/conv/kernel": "features.2.1.block.0.0.weight",
        "stage5_block3/project/norm/bias": "features.5.2.block.3.1.bias",
    },
    "convnext_tiny": {
        "stem_conv/bias": "features.0.0.bias",
        "stage3_downsample_norm/scale": "features.4.0.weight",
        "stage3_downsample/kernel": "features.4.1.weight",
        "stage4_block2/layer_scale": "features.7.1.layer_scale",
        "stage4_block2/norm/bias": "features.7.1.block.2.bias",
        "norm/scale": "classifier.0.weight",
    },
    "efficientnet_lite0": {
        "stage1_block1/project/norm/mean": "blocks.0.0.bn2.running_mean",
        "stage6_block4/depthwise/conv/kernel": "blocks.5.3.conv_dw.weight",
    },
    "inception_v3": {
        "conv3b/conv/kernel": "Conv2d_3b_1x1.conv.weight",
        "mixed7c/branch3x3dbl_3b/norm/scale": "Mixed_7c.branch3x3dbl_3b.bn.weight",
        "auxiliary/conv1/norm/var": "AuxLogits.conv1.bn.running_var",
        "auxiliary/classifier/kernel": "AuxLogits.fc.weight",
        "classifier/bias": "fc.bias",
    },
}


@pytest.mark.parametrize("network", NAMES)
def test_torch_names(network: str) -> None:
    assert {path: TORCH.name(network, path) for path in NAMES[network]} == NAMES[network]


@functools.cache
def _variables(network: str) -> dict[str, Any]:
    config = jax_model.make_config(network, SIZES.get(network, 64), batch_size=1)
    size, channels = config.data.image_size, len(config.data.mean)
    return load("drawn").variables(models.create(config.model), (1, size, size, channels))


@pytest.mark.parametrize(
    "network",
    [
        name if name in ("lenet5", "resnet50") else pytest.param(name, marks=pytest.mark.slow)
        for name in TORCH.networks
    ],
)
def test_round_trip_is_bit_exact(network: str) -> None:
    for tree in _variables(network).values():
        arrays = to_torch(network, tree)
        assert len(arrays) == len(jax.tree.leaves(tree))
        chex.assert_trees_all_equal(from_torch(network, arrays, like=tree), dict(tree))


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("efficientnet_b0", "torch"),
        *(
            pytest.param(name, layout, marks=pytest.mark.slow)
            for name, layout in (
                ("mobilenet_v2", "torch"),
                ("mobilenet_v2", "timm"),
                ("mobilenet_v2", "keras"),
                ("efficientnet_b0", "timm"),
                ("efficientnet_b0", "keras"),
                ("efficientnet_b0", "efficientnet_pytorch"),
                *(("convnext_tiny", layout) for layout in ("torch", "timm", "keras")),
                *((f"efficientnet_lite{number}", "torch") for number in range(3)),
                *((f"efficientnet_lite{number}", "efficientnet_pytorch") for number in range(3)),
            )
        ),
    ],
)
def test_exported_names_are_recognised_and_read_again(name: str, layout: str) -> None:
    variant = convert.LAYOUTS[layout].networks[name].variants[0]
    config = config_lib.default_config().model
    config.update({"name": name, "num_classes": 3, "variant": variant})
    model = models.create(config)
    generator = np.random.default_rng(0)
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    variables = jax.tree.map(lambda leaf: generator.random(leaf.shape, np.float32), shapes)
    arrays = convert.to_layout(layout, Weights(variables, config, (64, 64, 3)))
    assert len(arrays) == len(jax.tree.leaves(variables))
    assert convert.recognise(arrays, None, None) == (name, layout)
    converted = convert.from_layout(layout, arrays, config, (64, 64, 3))
    assert converted.missing == converted.unexpected == ()
    for path, leaf in flatten(variables).items():
        np.testing.assert_array_equal(converted.arrays[path], leaf, err_msg=path)


@pytest.mark.parametrize(
    ("network", "layer", "height", "width"),
    [("lenet5", "dense1", 4, 4), ("lenet5", "dense1", 3, 5), ("inception_v1", "auxiliary1/dense", 4, 4)],
)
def test_dense_layer_after_flatten_gives_the_same_outputs(
    network: str, layer: str, height: int, width: int
) -> None:
    channels = TORCH.networks[network].flattened[layer]
    generator = np.random.default_rng(0)
    image = generator.integers(-9, 9, (height, width, channels))
    kernel = generator.integers(-9, 9, (image.size, 2))
    tree = traverse_util.unflatten_dict({f"{layer}/kernel": kernel}, sep="/")
    (weight,) = to_torch(network, tree).values()
    np.testing.assert_array_equal(weight @ image.transpose(2, 0, 1).ravel(), image.ravel() @ kernel)


@pytest.mark.oracle
@pytest.mark.parametrize("network", TORCH.networks)
def test_names_and_shapes_match_pytorch(network: str) -> None:
    networks = load("networks")
    config = jax_model.make_config(network, SIZES.get(network, 64), batch_size=1)
    theirs = networks.make_network(config)
    variables = _variables(network)
    arrays = {k: v for tree in variables.values() for k, v in to_torch(network, tree).items()}
    networks.load_arrays(theirs, arrays)
    arrays_of_pytorch = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    for tree in variables.values():
        chex.assert_trees_all_equal(from_torch(network, arrays_of_pytorch, like=tree), dict(tree))


@pytest.mark.oracle
@pytest.mark.parametrize("network", ["vgg16", "vgg16_bn"])
def test_vgg_of_timm_has_the_names_of_torchvision(network: str) -> None:
    torchvision = load("torchvision_import").import_torchvision()
    import timm
    import torch

    with torch.device("meta"):
        theirs = timm.create_model(network, num_classes=3).state_dict()
        wanted = getattr(torchvision.models, network)(num_classes=3).state_dict()
    named = normalize_torch_names({name: np.empty(tensor.shape) for name, tensor in theirs.items()})
    assert {name: array.shape for name, array in named.items()} == {
        name: tuple(tensor.shape) for name, tensor in wanted.items()
    }
