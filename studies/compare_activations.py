"""Find the first layer in which the activations of two networks differ."""

from pathlib import Path
from typing import Any

import flax.errors
import jax
import numpy as np

from jaxnets import models, ops
from jaxnets.commands.summary import recorded_calls
from jaxnets.errors import CheckFailedError, CheckpointError
from jaxnets.experiment import restore
from jaxnets.interop import weight_files
from jaxnets.interop.convert import convolution_of, norms
from jaxnets.interop.layouts import LAYOUTS
from jaxnets.interop.weights import Weights, flatten
from jaxnets.runtime import console, xla

LAYERS = (ops.Conv, ops.Dense, ops.BatchNorm)
INPUTS = "inputs"
TOLERANCE = 1e-3
"""Maximum difference relative to the largest value; allows for float32 rounding in a deep network."""
BATCH = 2


def compare_activations(first: Path, second: Path, *, ignore_damage: bool = False) -> dict[str, float]:
    """Compares the outputs of each layer of two networks, in order of computation; prints the differences.

    Returns each layer's maximum difference, relative to the second network's largest value.
    `first` is a weights folder or a run; `second` is one too, or a .safetensors file of recorded activations:
    "inputs" and layer outputs, under our paths as [B, H, W, C] or PyTorch's module names as [B, C, H, W].
    Raises CheckFailedError that names the first layer that differs, and CheckpointError if the networks or
    their inputs are not comparable.
    """
    given = restore.read_weights_or_run(first, ignore_damage=ignore_damage)
    if second.suffix == ".safetensors":
        theirs, inputs = _recorded(second, given)
        ours = outputs(given, inputs)
    else:
        other = restore.read_weights_or_run(second, ignore_damage=ignore_damage)
        _check_comparable(first, given, second, other)
        shape = (BATCH, *given.input_shape)
        inputs = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        ours, theirs = outputs(given, inputs), outputs(other, inputs)
        if bool(given.source.get("folded")) != bool(other.source.get("folded")):
            console.log("note", "one network has folded batch norms: outputs are compared after each norm")
            kernels = {convolution_of(norm) for norm in norms(flatten(given.variables))}
            ours = {layer: values for layer, values in ours.items() if layer not in kernels}
    found = {layer: _error(ours[layer], theirs[layer]) for layer in ours if layer in theirs}
    if not found:
        raise CheckpointError(f"{second} and {first} have no layer in common")
    layers, wrong = list(found), [i for i, error in enumerate(found.values()) if not error <= TOLERANCE]
    for layer in layers[max(wrong[0] - 2, 0) :][:5] if wrong else layers:
        console.log("layer", f"{layer:<40} {found[layer]:.2e}")
    if wrong:
        layer = layers[wrong[0]]
        raise CheckFailedError(
            f"layer {wrong[0] + 1} of {len(found)} is the first that differs: {layer}, "
            f"by {found[layer]:.2e} relative to its largest value"
        )
    console.log("match", f"{len(found)} layers agree within {TOLERANCE:g} of their largest value")
    return found


def _check_comparable(first: Path, given: Weights, second: Path, other: Weights) -> None:
    """Raises CheckpointError unless both are the same network with the same kind of input."""
    ours, theirs = given.model.name, other.model.name
    if ours != theirs:
        raise CheckpointError(
            f"{first} is {ours} and {second} is {theirs}: compare weights of the same network"
        )
    shape, other_shape = list(given.input_shape), list(other.input_shape)
    if shape[-1:] != other_shape[-1:] or len(shape) != len(other_shape):
        raise CheckpointError(
            f"{first} takes inputs {shape} and {second} {other_shape}: both must take the same inputs"
        )


def _error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The maximum difference relative to the largest value; infinity for different shapes or NaN."""
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return float("inf")
    return float(np.abs(ours - theirs).max()) / (float(np.abs(theirs).max()) or 1.0)


def outputs(given: Weights, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of every layer with weights in inference, by path, in order of computation."""
    if given.missing:
        raise CheckpointError(f"the weights lack {given.missing[0]} and cannot be compared")
    network = models.create(given.model)
    names: list[str] = []

    def forward(variables: Any, x: jax.Array) -> list[jax.Array]:
        with recorded_calls() as calls:
            network.apply(variables, x, train=False)
        layers = [(path, y) for path, module, _, y in calls if isinstance(module, LAYERS)]
        names.extend(path for path, _ in layers)
        return [y for _, y in layers]

    try:
        with xla.precision_of(given.model):
            values = jax.device_get(xla.jit(forward)(given.variables, inputs))
    except (ValueError, TypeError, flax.errors.FlaxError) as error:
        shown = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{given.model.name} does not take inputs {list(inputs.shape)}, it expects "
            f"{list(given.input_shape)} ({shown}): give inputs of that shape"
        ) from error
    return dict(zip(names, values, strict=True))


def _recorded(path: Path, given: Weights) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Recorded outputs and inputs in our layout; the layout follows from the shape of "inputs"."""
    arrays, _ = weight_files.read_safetensors(path)
    channels = given.input_shape[-1]
    inputs = arrays.pop(INPUTS, np.zeros(0))
    if inputs.ndim != 4 or channels not in (inputs.shape[1], inputs.shape[-1]):
        raise CheckpointError(f"{path} lacks {INPUTS!r} of shape [B, H, W, {channels}]")
    if inputs.shape[-1] == channels:
        return arrays, inputs
    modules = {path.rpartition("/")[0].partition("/")[2] for path in flatten(given.variables)}
    ours = {LAYOUTS["torch"].module_name(given.model.name, layer): layer for layer in modules}
    transposed = {
        ours[name]: values.transpose(0, 2, 3, 1) if values.ndim == 4 else values
        for name, values in arrays.items()
        if name in ours
    }
    return transposed, inputs.transpose(0, 2, 3, 1)
