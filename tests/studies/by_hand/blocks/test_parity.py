"""The building blocks match PyTorch, and report D's example matches Keras, in float64."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from studies.pages import digits_side_by_side

pytest.importorskip("torch")

import torch

from studies.by_hand.blocks import (
    adam,
    convolution,
    dense,
    dense_classifier,
    descent,
    dropout,
    pooling,
    softmax,
)

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("x64")]
functional = torch.nn.functional
CLOSE = {"rtol": 1e-12, "atol": 1e-12}
STEPS = 20


def _draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def _channels_first(array: Any) -> np.ndarray:
    """Converts images to channels first, PyTorch's layout; returns matrices unchanged."""
    return np.moveaxis(np.asarray(array), -1, 1) if np.ndim(array) == 4 else np.asarray(array)


def _torch_vjp(
    function: Callable[..., torch.Tensor], *arrays: np.ndarray
) -> tuple[torch.Tensor, Callable[[Any], list[np.ndarray]]]:
    """Returns PyTorch's output and a function from its gradient to those of the arrays."""
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    y = function(*tensors)

    def pull(gradient: Any) -> list[np.ndarray]:
        y.backward(torch.tensor(_channels_first(gradient)))
        return [tensor.grad.numpy() for tensor in tensors]

    return y, pull


@pytest.mark.parametrize(("extent", "stride", "pad"), [(3, 1, 0), (3, 2, 1), (1, 2, 0), (5, 1, 2)])
def test_convolution(extent: int, stride: int, pad: int) -> None:
    x, kernel, bias = _draw(2, 7, 6, 3), _draw(extent, extent, 3, 4, seed=1), _draw(4, seed=2)
    sizes = {"strides": (stride, stride), "padding": ((pad, pad), (pad, pad))}
    y = convolution.convolution(x, kernel, bias, **sizes)
    theirs, pull = _torch_vjp(
        lambda *arrays: functional.conv2d(*arrays, stride=stride, padding=pad),
        _channels_first(x),
        kernel.transpose(3, 2, 0, 1),
        bias,
    )
    np.testing.assert_allclose(_channels_first(y), theirs.detach(), **CLOSE)
    gradient = _draw(*y.shape, seed=3)
    grad_x, grad_kernel, grad_bias = convolution.convolution_backward(gradient, x, kernel, **sizes)
    ours = (_channels_first(grad_x), grad_kernel.transpose(3, 2, 0, 1), grad_bias)
    for one, other in zip(ours, pull(gradient), strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("max_pool", functional.max_pool2d, {}),
        ("average_pool", functional.avg_pool2d, {"count_include_pad": True}),
        ("average_pool", functional.avg_pool2d, {"count_include_pad": False}),
    ],
)
@pytest.mark.parametrize(("window", "stride", "pad"), [(2, 2, 0), (3, 2, 1)])
def test_pooling(name, theirs, options, window, stride, pad) -> None:
    # Small integers, so nearly every window has ties.
    x = np.random.default_rng(0).integers(0, 3, (2, 7, 6, 3)).astype(float)
    pads = ((pad, pad), (pad, pad))
    sizes = {"window": (window, window), "strides": (stride, stride), "padding": pads, **options}
    y = getattr(pooling, name)(x, **sizes)
    expected, pull = _torch_vjp(lambda x: theirs(x, window, stride, pad, **options), _channels_first(x))
    np.testing.assert_allclose(_channels_first(y), expected.detach(), **CLOSE)
    gradient = _draw(*y.shape)
    grad_x = getattr(pooling, f"{name}_backward")(gradient, x, **sizes)
    np.testing.assert_allclose(_channels_first(grad_x), pull(gradient)[0], **CLOSE)


@pytest.mark.parametrize(("name", "theirs"), [("max", torch.amax), ("average", torch.mean)])
def test_global_pooling(name: str, theirs: Any) -> None:
    x = np.random.default_rng(0).integers(0, 3, (2, 4, 3, 5)).astype(float)
    y = getattr(pooling, f"global_{name}_pool")(x)
    expected, pull = _torch_vjp(lambda x: theirs(x, (2, 3)), _channels_first(x))
    np.testing.assert_allclose(y, expected.detach(), **CLOSE)
    gradient = _draw(*y.shape)
    grad_x = getattr(pooling, f"global_{name}_pool_backward")(gradient, x)
    np.testing.assert_allclose(_channels_first(grad_x), pull(gradient)[0], **CLOSE)


def test_dropout() -> None:
    torch.manual_seed(0)
    x, gradient = _draw(50, 20), _draw(50, 20, seed=1)
    theirs, pull = _torch_vjp(lambda x: functional.dropout(x, 0.2), x)
    mask = theirs.detach().numpy() != 0
    np.testing.assert_allclose(dropout.dropout(x, mask, 0.2), theirs.detach(), **CLOSE)
    mine = dropout.dropout_backward(gradient, mask, 0.2)
    np.testing.assert_allclose(mine, pull(gradient)[0], **CLOSE)


def test_dense() -> None:
    x, kernel, bias, gradient = _draw(5, 4), _draw(4, 3, seed=1), _draw(3, seed=2), _draw(5, 3)
    theirs, pull = _torch_vjp(functional.linear, x, kernel.T, bias)
    np.testing.assert_allclose(dense.dense(x, kernel, bias), theirs.detach(), **CLOSE)
    grad_x, grad_kernel, by_bias = dense.dense_backward(gradient, x, kernel)
    for ours, other in zip((grad_x, grad_kernel.T, by_bias), pull(gradient), strict=True):
        np.testing.assert_allclose(ours, other, **CLOSE)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_softmax_and_cross_entropy(scale: float) -> None:
    logits, gradient = scale * _draw(3, 4), _draw(3, 4, seed=1)
    probabilities, pull = _torch_vjp(lambda z: functional.softmax(z, 1), logits)
    mine = softmax.softmax(logits)
    np.testing.assert_allclose(mine, probabilities.detach(), **CLOSE)
    np.testing.assert_allclose(softmax.softmax_backward(gradient, mine), pull(gradient)[0], **CLOSE)
    targets = np.eye(4)[[2, 0, 3]]
    loss, pull = _torch_vjp(lambda z: functional.cross_entropy(z, torch.tensor(targets)), logits)
    np.testing.assert_allclose(softmax.cross_entropy(logits, targets), loss.item(), rtol=1e-12)
    mine = softmax.cross_entropy_backward(logits, targets)
    np.testing.assert_allclose(mine, pull(1.0)[0], **CLOSE)


def _sgd(parameter: Any, gradient: Any, memory: Any, **options: Any) -> tuple[Any, Any]:
    return descent.sgd(parameter, gradient, **options), memory


def _adam(parameter: Any, gradient: Any, state: Any, **options: Any) -> tuple[Any, Any]:
    return adam.adam(parameter, gradient, state or adam.init(parameter), **options)


@pytest.mark.parametrize(
    ("ours", "memory", "theirs", "options"),
    [
        (_sgd, 0.0, torch.optim.SGD, {}),
        (descent.momentum, 0.0, torch.optim.SGD, {"momentum": 0.9}),
        (descent.adagrad, 0.0, torch.optim.Adagrad, {}),
        (descent.rmsprop, 0.0, torch.optim.RMSprop, {}),
        (_adam, None, torch.optim.Adam, {}),
    ],
)
def test_optimizers_match_pytorch_for_twenty_steps(ours, memory, theirs, options) -> None:
    parameter = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    rule, mine = theirs([parameter], lr=0.01, **options), jnp.zeros(4)
    for gradient in _draw(STEPS, 4):
        mine, memory = ours(mine, gradient, memory, learning_rate=0.01)
        parameter.grad = torch.tensor(gradient)
        rule.step()
        np.testing.assert_allclose(mine, parameter.detach(), rtol=1e-12)


def test_adam_defaults_match_pytorch() -> None:
    theirs = torch.optim.Adam([torch.zeros(1)]).defaults
    ours = (adam.LEARNING_RATE, (adam.BETA1, adam.BETA2), adam.EPSILON)
    assert ours == (theirs["lr"], theirs["betas"], theirs["eps"])


class _Network(torch.nn.Module):
    """The small convolutional network, with the dropout mask as an input."""

    def __init__(self, rate: float):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(8, 16, 3, padding=1)
        self.dense = torch.nn.Linear(64, 10)
        self.rate = rate

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.avg_pool2d(functional.relu(self.conv2(x)), 2)
        x = x.permute(0, 2, 3, 1).flatten(1)  # the order of flattened [B, H, W, C]
        return self.dense(torch.where(mask, x / (1 - self.rate), 0.0))


def _to_torch(parameters: dict[str, dense.Layer]) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, layer in parameters.items():
        kernel = np.asarray(layer.kernel)
        axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        tensors[f"{name}.weight"] = torch.tensor(kernel.transpose(axes))
        tensors[f"{name}.bias"] = torch.tensor(np.asarray(layer.bias))
    return tensors


def test_network_matches_pytorch_for_twenty_steps_on_digits() -> None:
    theirs = _Network(digits_side_by_side.RATE).double()
    theirs.load_state_dict(_to_torch(digits_side_by_side.start()))
    rule = torch.optim.Adam(theirs.parameters(), lr=digits_side_by_side.LEARNING_RATE)
    for (mine, my_loss), batch in zip(
        digits_side_by_side.by_hand(STEPS), digits_side_by_side.batches(STEPS), strict=True
    ):
        x, targets, mask = (torch.tensor(_channels_first(array)) for array in batch)
        loss = functional.cross_entropy(theirs(x, mask), targets)
        rule.zero_grad()
        loss.backward()
        rule.step()
        assert my_loss == pytest.approx(loss.item(), rel=1e-12)
        for name, tensor in _to_torch(mine).items():
            np.testing.assert_allclose(tensor, theirs.state_dict()[name], rtol=0, atol=1e-12)


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """Returns Keras with the JAX backend in double precision."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))  # written to on import
    keras = importlib.import_module("keras")
    keras.config.set_floatx("float64")
    yield keras
    keras.config.set_floatx("float32")


def test_report_d_example_matches_keras_for_twenty_steps(keras: ModuleType) -> None:
    layers = [
        keras.layers.Dense(size, activation=name)
        for size, name in ((64, "relu"), (64, "relu"), (3, "softmax"))
    ]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    rule = model.optimizer
    ours = (adam.LEARNING_RATE, adam.BETA1, adam.BETA2)
    assert (rule.learning_rate.value.item(), rule.beta_1, rule.beta_2) == ours
    assert rule.epsilon == 1e-7  # the paper's is 1e-8

    parameters = dense_classifier.initialize(jax.random.key(0), 6, 3, dtype="float64")
    for layer, mine in zip(layers, parameters, strict=True):
        layer.set_weights([np.asarray(mine.kernel), np.asarray(mine.bias)])
    state = adam.init(parameters)
    for step, x in enumerate(_draw(STEPS, 32, 6), 1):
        targets = np.eye(3)[x[:, :3].argmax(axis=1)]
        loss = model.train_on_batch(x, targets)[0]
        trace = dense_classifier.forward(parameters, x)
        my_loss = softmax.cross_entropy(trace.outputs[-1], targets)
        assert float(my_loss) == pytest.approx(float(loss), rel=1e-12)
        # Keras adds epsilon before the bias correction.
        epsilon = 1e-7 / (1 - adam.BETA2**step) ** 0.5
        gradients = dense_classifier.backward(parameters, trace, targets)
        parameters, state = adam.adam(parameters, gradients, state, epsilon=epsilon)
        model.reset_metrics()  # otherwise the loss is the mean of all steps
        for layer, mine in zip(layers, parameters, strict=True):
            for ours, other in zip(mine, layer.weights, strict=True):
                np.testing.assert_allclose(ours, other.value, rtol=0, atol=1e-12)
