"""The blocks are PyTorch's, and report D's example is Keras's: values, gradients and steps in float64."""

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


def _first(array: Any) -> np.ndarray:
    """Channels first, as PyTorch has them; matrices as they are."""
    return np.moveaxis(np.asarray(array), -1, 1) if np.ndim(array) == 4 else np.asarray(array)


def _theirs(
    function: Callable[..., torch.Tensor], *arrays: np.ndarray
) -> tuple[torch.Tensor, Callable[[Any], list[np.ndarray]]]:
    """PyTorch's value, and from a gradient by it those by the arrays."""
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    y = function(*tensors)

    def pull(gradient: Any) -> list[np.ndarray]:
        y.backward(torch.tensor(_first(gradient)))
        return [tensor.grad.numpy() for tensor in tensors]

    return y, pull


@pytest.mark.parametrize(("extent", "stride", "pad"), [(3, 1, 0), (3, 2, 1), (1, 2, 0), (5, 1, 2)])
def test_convolution(extent: int, stride: int, pad: int) -> None:
    x, kernel, bias = _draw(2, 7, 6, 3), _draw(extent, extent, 3, 4, seed=1), _draw(4, seed=2)
    sizes = {"strides": (stride, stride), "padding": ((pad, pad), (pad, pad))}
    y = convolution.convolution(x, kernel, bias, **sizes)
    theirs, pull = _theirs(
        lambda *arrays: functional.conv2d(*arrays, stride=stride, padding=pad),
        _first(x),
        kernel.transpose(3, 2, 0, 1),
        bias,
    )
    np.testing.assert_allclose(_first(y), theirs.detach(), **CLOSE)
    gradient = _draw(*y.shape, seed=3)
    by_x, by_kernel, by_bias = convolution.convolution_backward(gradient, x, kernel, **sizes)
    mine = (_first(by_x), by_kernel.transpose(3, 2, 0, 1), by_bias)
    for ours, other in zip(mine, pull(gradient), strict=True):
        np.testing.assert_allclose(ours, other, **CLOSE)


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
    # Small whole numbers: nearly every window holds its largest value more than once.
    x = np.random.default_rng(0).integers(0, 3, (2, 7, 6, 3)).astype(float)
    pads = ((pad, pad), (pad, pad))
    sizes = {"window": (window, window), "strides": (stride, stride), "padding": pads, **options}
    y = getattr(pooling, name)(x, **sizes)
    expected, pull = _theirs(lambda x: theirs(x, window, stride, pad, **options), _first(x))
    np.testing.assert_allclose(_first(y), expected.detach(), **CLOSE)
    gradient = _draw(*y.shape)
    by_x = getattr(pooling, f"{name}_backward")(gradient, x, **sizes)
    np.testing.assert_allclose(_first(by_x), pull(gradient)[0], **CLOSE)


@pytest.mark.parametrize(("name", "theirs"), [("max", torch.amax), ("average", torch.mean)])
def test_global_pooling(name: str, theirs: Any) -> None:
    x = np.random.default_rng(0).integers(0, 3, (2, 4, 3, 5)).astype(float)
    y = getattr(pooling, f"global_{name}_pool")(x)
    expected, pull = _theirs(lambda x: theirs(x, (2, 3)), _first(x))
    np.testing.assert_allclose(y, expected.detach(), **CLOSE)
    gradient = _draw(*y.shape)
    by_x = getattr(pooling, f"global_{name}_pool_backward")(gradient, x)
    np.testing.assert_allclose(_first(by_x), pull(gradient)[0], **CLOSE)


def test_dropout() -> None:
    torch.manual_seed(0)
    x, gradient = _draw(50, 20), _draw(50, 20, seed=1)
    theirs, pull = _theirs(lambda x: functional.dropout(x, 0.2), x)
    mask = theirs.detach().numpy() != 0
    np.testing.assert_allclose(dropout.dropout(x, mask, 0.2), theirs.detach(), **CLOSE)
    mine = dropout.dropout_backward(gradient, mask, 0.2)
    np.testing.assert_allclose(mine, pull(gradient)[0], **CLOSE)


def test_dense() -> None:
    x, kernel, bias, gradient = _draw(5, 4), _draw(4, 3, seed=1), _draw(3, seed=2), _draw(5, 3)
    theirs, pull = _theirs(functional.linear, x, kernel.T, bias)
    np.testing.assert_allclose(dense.dense(x, kernel, bias), theirs.detach(), **CLOSE)
    by_x, by_kernel, by_bias = dense.dense_backward(gradient, x, kernel)
    for ours, other in zip((by_x, by_kernel.T, by_bias), pull(gradient), strict=True):
        np.testing.assert_allclose(ours, other, **CLOSE)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_softmax_and_cross_entropy(scale: float) -> None:
    logits, gradient = scale * _draw(3, 4), _draw(3, 4, seed=1)
    shares, pull = _theirs(lambda z: functional.softmax(z, 1), logits)
    mine = softmax.softmax(logits)
    np.testing.assert_allclose(mine, shares.detach(), **CLOSE)
    np.testing.assert_allclose(softmax.softmax_backward(gradient, mine), pull(gradient)[0], **CLOSE)
    targets = np.eye(4)[[2, 0, 3]]
    loss, pull = _theirs(lambda z: functional.cross_entropy(z, torch.tensor(targets)), logits)
    np.testing.assert_allclose(softmax.cross_entropy(logits, targets), loss.item(), rtol=1e-12)
    mine = softmax.cross_entropy_backward(logits, targets)
    np.testing.assert_allclose(mine, pull(1.0)[0], **CLOSE)


def _no_memory(parameter: Any, gradient: Any, memory: Any, **options: Any) -> tuple[Any, Any]:
    return descent.sgd(parameter, gradient, **options), memory


def _adam(parameter: Any, gradient: Any, state: Any, **options: Any) -> tuple[Any, Any]:
    return adam.adam(parameter, gradient, state or adam.start(parameter), **options)


@pytest.mark.parametrize(
    ("ours", "memory", "theirs", "options"),
    [
        (_no_memory, 0.0, torch.optim.SGD, {}),
        (descent.momentum, 0.0, torch.optim.SGD, {"momentum": 0.9}),
        (descent.adagrad, 0.0, torch.optim.Adagrad, {}),
        (descent.rmsprop, 0.0, torch.optim.RMSprop, {}),
        (_adam, None, torch.optim.Adam, {}),
    ],
)
def test_twenty_steps_with_their_own_settings(ours, memory, theirs, options) -> None:
    parameter = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    rule, mine = theirs([parameter], lr=0.01, **options), jnp.zeros(4)
    for gradient in _draw(STEPS, 4):
        mine, memory = ours(mine, gradient, memory, learning_rate=0.01)
        parameter.grad = torch.tensor(gradient)
        rule.step()
        np.testing.assert_allclose(mine, parameter.detach(), rtol=1e-12)


def test_adam_s_settings_are_pytorch_s() -> None:
    theirs = torch.optim.Adam([torch.zeros(1)]).defaults
    ours = (adam.LEARNING_RATE, (adam.BETA1, adam.BETA2), adam.EPSILON)
    assert ours == (theirs["lr"], theirs["betas"], theirs["eps"])


@pytest.fixture
def sides() -> ModuleType:
    return digits_side_by_side


class _Network(torch.nn.Module):
    """The small convolutional network, with what dropout keeps given."""

    def __init__(self, rate: float):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(8, 16, 3, padding=1)
        self.dense = torch.nn.Linear(64, 10)
        self.rate = rate

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.avg_pool2d(functional.relu(self.conv2(x)), 2)
        x = x.permute(0, 2, 3, 1).flatten(1)  # the order in which [B, H, W, C] is flattened
        return self.dense(torch.where(mask, x / (1 - self.rate), 0.0))


def _to_torch(parameters: dict[str, dense.Layer]) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, layer in parameters.items():
        kernel = np.asarray(layer.kernel)
        axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
        tensors[f"{name}.weight"] = torch.tensor(kernel.transpose(axes))
        tensors[f"{name}.bias"] = torch.tensor(np.asarray(layer.bias))
    return tensors


def test_twenty_steps_of_the_network_on_digits(sides: ModuleType) -> None:
    theirs = _Network(sides.RATE).double()
    theirs.load_state_dict(_to_torch(sides.start()))
    rule = torch.optim.Adam(theirs.parameters(), lr=sides.LEARNING_RATE)
    for (mine, my_loss), batch in zip(sides.by_hand(STEPS), sides.batches(STEPS), strict=True):
        x, targets, mask = (torch.tensor(_first(array)) for array in batch)
        loss = functional.cross_entropy(theirs(x, mask), targets)
        rule.zero_grad()
        loss.backward()
        rule.step()
        assert my_loss == pytest.approx(loss.item(), rel=1e-12)
        for name, tensor in _to_torch(mine).items():
            np.testing.assert_allclose(tensor, theirs.state_dict()[name], rtol=0, atol=1e-12)


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """Keras on JAX in double precision."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))  # where it writes its settings on import
    keras = importlib.import_module("keras")
    keras.config.set_floatx("float64")
    yield keras
    keras.config.set_floatx("float32")


def test_report_d_s_example_takes_keras_s_steps(keras: ModuleType) -> None:
    layers = [
        keras.layers.Dense(size, activation=name)
        for size, name in ((64, "relu"), (64, "relu"), (3, "softmax"))
    ]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    rule = model.optimizer
    ours = (adam.LEARNING_RATE, adam.BETA1, adam.BETA2)
    assert (rule.learning_rate.value.item(), rule.beta_1, rule.beta_2) == ours
    assert rule.epsilon == 1e-7  # not the paper's

    parameters = dense_classifier.initialize(jax.random.key(0), 6, 3, dtype="float64")
    for layer, mine in zip(layers, parameters, strict=True):
        layer.set_weights([np.asarray(mine.kernel), np.asarray(mine.bias)])
    state = adam.start(parameters)
    for step, x in enumerate(_draw(STEPS, 32, 6), 1):
        targets = np.eye(3)[x[:, :3].argmax(axis=1)]
        loss = model.train_on_batch(x, targets)[0]
        trace = dense_classifier.forward(parameters, x)
        my_loss = softmax.cross_entropy(trace.outputs[-1], targets)
        assert float(my_loss) == pytest.approx(float(loss), rel=1e-12)
        # Keras adds epsilon to the root of the moment before its bias is corrected.
        epsilon = 1e-7 / (1 - adam.BETA2**step) ** 0.5
        gradients = dense_classifier.backward(parameters, trace, targets)
        parameters, state = adam.adam(parameters, gradients, state, epsilon=epsilon)
        model.reset_metrics()  # or its loss is the mean of all steps
        for layer, mine in zip(layers, parameters, strict=True):
            for ours, other in zip(mine, layer.weights, strict=True):
                np.testing.assert_allclose(ours, other.value, rtol=0, atol=1e-12)
