"""In which layer two networks that should be the same begin to differ."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.errors
import flax.linen as nn
import jax
import numpy as np

from jaxnets import models, ops
from jaxnets.errors import CheckFailedError, CheckpointError
from jaxnets.experiment import weights as folders
from jaxnets.interop import weight_files
from jaxnets.interop.convert import convolution_of, norms
from jaxnets.interop.torch_names import BY_NETWORK
from jaxnets.interop.weights import Weights, flatten
from jaxnets.runtime import xla
from jaxnets.runtime.console import Reporter
from jaxnets.runtime.precision import precision_of

LAYERS = (ops.Conv, ops.Dense, ops.BatchNorm)
INPUTS = "inputs"
LIMIT = 1e-3
"""Largest difference in units of the largest value, in single precision through a deep network."""
BATCH = 2


class Difference(NamedTuple):
    """Of a layer's outputs, in units of the largest value of the second side."""

    layer: str
    error: float


def diagnose(first: Path, second: Path, *, ignore_damage: bool = False) -> list[Difference]:
    """Compares the layers of `first`, weights or a run, with those of `second`, in order, and says it.

    `second` is the same or a .safetensors of recorded activations: "inputs" and the layers' outputs, under
    our paths and [B, H, W, C], or under PyTorch's module names and [B, C, H, W].
    Raises CheckFailedError, naming the first layer that differs; CheckpointError where the networks are two,
    or the recorded inputs are not what `first` takes.
    """
    reporter = Reporter()
    given = folders.read(first, ignore_damage=ignore_damage)
    if second.suffix == ".safetensors":
        recorded, inputs = _recorded(second, given)
        ours = outputs(given, inputs)
        theirs = {layer: recorded[layer] for layer in ours if layer in recorded}
    else:
        other = folders.read(second, ignore_damage=ignore_damage)
        _require_comparable(first, given, second, other)
        shape = (BATCH, *given.input_shape)
        inputs = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        ours, theirs = outputs(given, inputs), outputs(other, inputs)
        if bool(given.source.get("folded")) != bool(other.source.get("folded")):
            message = "one side has batch norms folded into kernels: compared after each norm"
            reporter.line("note", message)
            kernels = {convolution_of(norm) for norm in norms(flatten(given.variables))}
            ours = {layer: values for layer, values in ours.items() if layer not in kernels}
    found = compare(ours, theirs)
    if not found:
        raise CheckpointError(f"{second} has no layer of {first}")
    wrong = next((number for number, each in enumerate(found) if not each.error <= LIMIT), None)
    begin = 0 if wrong is None else max(wrong - 2, 0)
    for each in found[begin:][: len(found) if wrong is None else 5]:
        reporter.line("layer", f"{each.layer:<40} {each.error:.2e}")
    if wrong is not None:
        raise CheckFailedError(
            f"layer {wrong + 1} of {len(found)} is the first that differs: {found[wrong].layer}, "
            f"by {found[wrong].error:.2e} of its largest value"
        )
    reporter.line("same", f"{len(found)} layers, none by more than {LIMIT:g} of its largest value")
    return found


def _require_comparable(first: Path, given: Weights, second: Path, other: Weights) -> None:
    """Raises CheckpointError where the two are not of one network, or do not take the same inputs."""
    names = [each.model.name for each in (given, other)]
    shapes = [list(each.input_shape) for each in (given, other)]
    if names[0] != names[1]:
        raise CheckpointError(
            f"{first} is {names[0]} and {second} is {names[1]}: compare two of one network"
        )
    if shapes[0][-1:] != shapes[1][-1:] or len(shapes[0]) != len(shapes[1]):
        raise CheckpointError(
            f"{first} takes {shapes[0]} and {second} {shapes[1]}: compare two of the same inputs"
        )


def outputs(given: Weights, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """What every layer with weights gives in inference, by path, in the order of computation."""
    if given.missing:
        raise CheckpointError(f"the weights lack {given.missing[0]}: nothing can be compared")
    network = models.create(given.model)
    names: list[str] = []

    def forward(variables: Any, x: jax.Array) -> list[jax.Array]:
        values: list[jax.Array] = []

        def record(following: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext):
            y = following(*args, **kwargs)
            if isinstance(context.module, LAYERS) and context.method_name == "__call__":
                names.append("/".join(context.module.path))
                values.append(y)
            return y

        with nn.intercept_methods(record):
            network.apply(variables, x, train=False)
        return values

    try:
        with precision_of(given.model):
            values = jax.device_get(xla.jit(forward)(given.variables, inputs))
    except (ValueError, TypeError, flax.errors.FlaxError) as error:  # shapes of some layer
        shown = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{given.model.name} does not take inputs {list(inputs.shape)}, it was made for "
            f"{list(given.input_shape)} ({shown}): give inputs of that shape"
        ) from error
    return dict(zip(names, values, strict=True))


def compare(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> list[Difference]:
    """The layers that both sides have, in our order; another shape or NaN is an infinite difference."""
    return [
        Difference(layer, _error(values, np.asarray(theirs[layer])))
        for layer, values in ours.items()
        if layer in theirs
    ]


def _error(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return float("inf")
    difference = float(np.abs(ours - theirs).max())
    return difference / (float(np.abs(theirs).max()) or 1.0)


def _recorded(path: Path, given: Weights) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The layers' outputs and the inputs as ours; "inputs" shows whether they are PyTorch's."""
    arrays, _ = weight_files.read_safetensors(path)
    channels = given.input_shape[-1]
    inputs = arrays.pop(INPUTS, np.zeros(0))
    if inputs.ndim != 4 or channels not in (inputs.shape[1], inputs.shape[-1]):
        raise CheckpointError(f"{path} has no {INPUTS!r} [B, H, W, {channels}]")
    if inputs.shape[-1] == channels:
        return arrays, inputs
    module = BY_NETWORK[given.model.name].module
    modules = {path.rpartition("/")[0].partition("/")[2] for path in flatten(given.variables)}
    ours = {module(layer): layer for layer in modules}
    turned = {
        ours[name]: values.transpose(0, 2, 3, 1) if values.ndim == 4 else values
        for name, values in arrays.items()
        if name in ours
    }
    return turned, inputs.transpose(0, 2, 3, 1)
