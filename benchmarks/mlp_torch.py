"""A training step of a multilayer perceptron in PyTorch."""

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.oracles import has_torch
from studies.by_hand import mlp
from studies.mlp_proof.implementations import TorchReference


def oracle() -> TorchReference | None:
    """Returns PyTorch as a reference implementation of the step; None if it is not installed."""
    if not has_torch():
        return None
    return TorchReference(importlib.metadata.version("torch").split("+")[0], gradient_step)


def gradient_step(
    parameters: Sequence[tuple[ArrayLike, ArrayLike]],
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    activations: Sequence[str],
    loss: str,
    learning_rate: float,
    dtype: str = "float64",
) -> mlp.Trace:
    """`studies.by_hand.mlp.gradient_step` with nn.Linear, backward() and torch.optim.SGD.

    Biases are passed to nn.Linear in their given shape, even if it is wrong.
    """
    import torch
    from torch.nn import functional

    def tensor(values: ArrayLike) -> Any:
        return torch.tensor(np.asarray(values), dtype=getattr(torch, dtype))

    functions = {
        "tanh": torch.tanh,
        "relu": torch.relu,
        "leaky_relu": functional.leaky_relu,
        "sigmoid": torch.sigmoid,
        "identity": lambda z: z.clone(),
    }
    layers = [_linear(tensor(weight), tensor(bias)) for weight, bias in parameters]
    x, z, a = tensor(inputs), [], []
    for layer, name in zip(layers, activations, strict=True):
        z.append(layer(x))
        z[-1].retain_grad()
        x = functions[name](z[-1])
        a.append(x)
    error = functional.mse_loss(
        x, tensor(labels), reduction="mean" if loss == "mean_squared_error" else "sum"
    )
    value = error / 2 if loss == "half_squared_error" else error
    value.backward()
    gradients = tuple(mlp.Layer(_array(layer.weight.grad), _array(layer.bias.grad)) for layer in layers)
    torch.optim.SGD(
        [parameter for layer in layers for parameter in layer.parameters()], lr=learning_rate
    ).step()
    return mlp.Trace(
        z=tuple(_array(values).T for values in z),
        a=tuple(_array(values).T for values in a),
        loss=_array(value),
        delta=tuple(_array(values.grad).T for values in z),
        gradients=gradients,
        updated=tuple(mlp.Layer(_array(layer.weight), _array(layer.bias)) for layer in layers),
    )


def _linear(weight: Any, bias: Any) -> Any:
    import torch

    layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
    return layer


def _array(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy().copy()
