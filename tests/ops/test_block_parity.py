"""Layers of mobile networks match PyTorch and timm in double precision: values and gradients."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from benchmarks.oracles import load
from jaxnets import ops
from jaxnets.interop.convert import to_torch
from jaxnets.models.base import ACTIVATIONS
from jaxnets.models.efficientnet import EfficientNet

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("x64")]
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


def _apply(apply: Callable[..., jax.Array], *arguments: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    """Returns the value, a random cotangent, and the gradients of the arguments."""
    value, pull_back = jax.vjp(jax.jit(apply), *arguments)
    cotangent = np.random.default_rng(7).normal(size=value.shape)
    return np.asarray(value), cotangent, pull_back(cotangent)


def _first(array: np.ndarray) -> Any:
    return torch.tensor(np.moveaxis(array, -1, 1), requires_grad=True)


def _last(tensor: Any) -> np.ndarray:
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


@pytest.mark.parametrize(
    ("name", "theirs"), [("relu6", torch.nn.ReLU6), ("silu", torch.nn.SiLU), ("gelu", torch.nn.GELU)]
)
def test_activations(name: str, theirs: type[Any]) -> None:
    x = np.concatenate([[0.0, 6.0, np.nan], np.random.default_rng(0).normal(scale=6, size=200)])
    value, cotangent, (gradient,) = _apply(ACTIVATIONS[name], x)
    their_x = torch.tensor(x, requires_grad=True)
    expected = theirs()(their_x)
    expected.backward(torch.tensor(cotangent))
    np.testing.assert_allclose(value, expected.detach(), **CLOSE)
    np.testing.assert_allclose(gradient[x == x], their_x.grad[~torch.isnan(their_x)], **CLOSE)


def test_layer_norm() -> None:
    generator = np.random.default_rng(0)
    x, scale, bias = generator.normal(3, 2, (2, 4, 5, 8)), generator.normal(size=8), generator.normal(size=8)
    ours, theirs = ops.LayerNorm(1e-3, dtype=np.float64), torch.nn.LayerNorm(8, eps=1e-3).double()
    theirs.load_state_dict({"weight": torch.tensor(scale), "bias": torch.tensor(bias)})
    params = {"scale": scale, "bias": bias}
    value, cotangent, (gradient, gradient_x) = _apply(lambda p, x: ours.apply({"params": p}, x), params, x)
    their_x = torch.tensor(x, requires_grad=True)
    expected = theirs(their_x)
    expected.backward(torch.tensor(cotangent))
    np.testing.assert_allclose(value, expected.detach(), **CLOSE)
    np.testing.assert_allclose(gradient_x, their_x.grad, **CLOSE)
    np.testing.assert_allclose(gradient["scale"], theirs.weight.grad, **CLOSE)
    np.testing.assert_allclose(gradient["bias"], theirs.bias.grad, **CLOSE)


def test_squeeze_excitation() -> None:
    torchvision = load("torchvision_import").import_torchvision()
    generator, layers = np.random.default_rng(0), EfficientNet(3, dtype=np.float64).layers()
    ours = ops.SqueezeExcitation(layers.conv, 3, nn.silu)
    theirs = torchvision.ops.SqueezeExcitation(8, 3, activation=torch.nn.SiLU).double()
    x = generator.normal(size=(2, 4, 5, 8))
    params = {
        name: {
            "kernel": convolution.weight.detach().numpy().transpose(2, 3, 1, 0),
            "bias": convolution.bias.detach().numpy(),
        }
        for name, convolution in (("reduce", theirs.fc1), ("expand", theirs.fc2))
    }
    value, cotangent, (gradient, of_x) = _apply(lambda p, x: ours.apply({"params": p}, x), params, x)
    their_x = _first(x)
    expected = theirs(their_x)
    expected.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    np.testing.assert_allclose(value, _last(expected), **CLOSE)
    np.testing.assert_allclose(of_x, _last(their_x.grad), **CLOSE)
    for name, convolution in (("reduce", theirs.fc1), ("expand", theirs.fc2)):
        kernel = convolution.weight.grad.numpy().transpose(2, 3, 1, 0)
        np.testing.assert_allclose(gradient[name]["kernel"], kernel, **CLOSE)
        np.testing.assert_allclose(gradient[name]["bias"], convolution.bias.grad, **CLOSE)


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (5, 6)])
@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 2), (5, 2), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("groups", [1, 4])
def test_same_padding_is_that_of_timm(size: tuple[int, int], window: int, stride: int, groups: int) -> None:
    load("torchvision_import").import_torchvision()
    from timm.layers import Conv2dSame

    generator = np.random.default_rng(0)
    x, kernel = generator.normal(size=(2, *size, 4)), generator.normal(size=(window, window, 4 // groups, 8))
    layers = EfficientNet(3, dtype=np.float64).layers()
    ours = layers.conv(8, window, stride=stride, padding="same", groups=groups, use_bias=False)
    theirs = Conv2dSame(4, 8, window, stride, groups=groups, bias=False).double()
    theirs.load_state_dict({"weight": torch.tensor(kernel.transpose(3, 2, 0, 1))})
    value, cotangent, (of_x, of_kernel) = _apply(
        lambda x, kernel: ours.apply({"params": {"kernel": kernel}}, x), x, kernel
    )
    their_x = _first(x)
    expected = theirs(their_x)
    expected.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    np.testing.assert_allclose(value, _last(expected), **CLOSE)
    np.testing.assert_allclose(of_x, _last(their_x.grad), **CLOSE)
    np.testing.assert_allclose(of_kernel, theirs.weight.grad.permute(2, 3, 1, 0), **CLOSE)


@pytest.mark.parametrize("activation", ["relu", "relu6", "silu", "identity"])
@pytest.mark.parametrize("train", [False, True])
def test_depthwise_convolution_norm_residual_and_activation(activation: str, train: bool) -> None:
    torchvision = load("torchvision_import").import_torchvision()
    functions = {"relu": torch.nn.ReLU, "relu6": torch.nn.ReLU6, "silu": torch.nn.SiLU}
    generator, layers = np.random.default_rng(0), EfficientNet(3, dtype=np.float64).layers()
    ours = layers.conv_norm(6, 3, padding=1, groups=6, activation=activation)
    theirs = torchvision.ops.Conv2dNormActivation(6, 6, 3, groups=6, activation_layer=None).double()
    x, residual = generator.normal(size=(2, 2, 5, 7, 6)) * 3
    shapes = jax.eval_shape(lambda: ours.init(jax.random.key(0), x, train=False))
    variables = jax.tree.map(lambda leaf: generator.uniform(0.5, 1.5, leaf.shape), shapes)
    names = {"conv": theirs[0], "norm": theirs[1]}

    def arrays(tree: Any) -> dict[str, np.ndarray]:
        return to_torch("efficientnet_lite0", {"stem": tree})

    given = {**arrays(variables["params"]), **arrays(variables["batch_stats"])}
    for ours_name, prefix in (("conv", "conv_stem."), ("norm", "bn1.")):
        tensors = {k.removeprefix(prefix): torch.tensor(v) for k, v in given.items() if k.startswith(prefix)}
        names[ours_name].load_state_dict(tensors, strict=False)

    def apply(params: Any, x: jax.Array, residual: jax.Array) -> jax.Array:
        y, _ = ours.apply(
            {**variables, "params": params}, x, train=train, residual=residual, mutable=["batch_stats"]
        )
        return y

    value, cotangent, (gradient, *of_inputs) = _apply(apply, variables["params"], x, residual)
    theirs.train(train)
    their_inputs = _first(x), _first(residual)
    sums = theirs(their_inputs[0]) + their_inputs[1]
    expected = functions[activation]()(sums) if activation in functions else sums
    expected.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    np.testing.assert_allclose(value, _last(expected), **CLOSE)
    for ours_gradient, tensor in zip(of_inputs, their_inputs, strict=True):
        np.testing.assert_allclose(ours_gradient, _last(tensor.grad), **CLOSE)
    converted = arrays(gradient)
    np.testing.assert_allclose(converted["conv_stem.weight"], theirs[0].weight.grad, **CLOSE)
    np.testing.assert_allclose(converted["bn1.weight"], theirs[1].weight.grad, **CLOSE)
    np.testing.assert_allclose(converted["bn1.bias"], theirs[1].bias.grad, **CLOSE)


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.9])
def test_stochastic_depth_has_the_values_of_torchvision(rate: float) -> None:
    """Each library draws its own examples: those that remain, and those that do not, are compared."""
    torchvision = load("torchvision_import").import_torchvision()
    x = np.random.default_rng(0).normal(size=(2000, 1, 2, 3))
    layer, rngs = ops.StochasticDepth(rate), {"dropout": jax.random.key(0)}
    value, cotangent, (gradient,) = _apply(lambda x: layer.apply({}, x, deterministic=False, rngs=rngs), x)
    their_x = torch.tensor(x, requires_grad=True)
    theirs = torchvision.ops.StochasticDepth(rate, "row").double()
    expected = theirs(their_x)
    expected.backward(torch.tensor(cotangent))
    ours_remain, theirs_remain = value.any(axis=(1, 2, 3)), expected.detach().numpy().any(axis=(1, 2, 3))
    both = ours_remain & theirs_remain
    assert both.any()
    np.testing.assert_allclose(value[both], expected.detach().numpy()[both], **CLOSE)
    np.testing.assert_allclose(gradient[both], their_x.grad.numpy()[both], **CLOSE)
    assert not value[~ours_remain].any()
    assert not np.asarray(gradient)[~ours_remain].any()
    np.testing.assert_array_equal(layer.apply({}, x, deterministic=True), x)
    np.testing.assert_array_equal(theirs.eval()(torch.tensor(x)), x)
