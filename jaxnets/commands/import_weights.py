"""Import weights of other libraries into a weights folder."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import models
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.interop import convert, foreign, layouts, weight_files, weights
from jaxnets.runtime import console, xla

MAX_LISTED = 12
"""Maximum number of array names to print."""


def import_weights(source: str, destination: Path, options: foreign.Options) -> weights.Weights:
    """Reads a file, or hub:OWNER/NAME, and writes the weights folder `destination`.

    Prints missing and unexpected arrays and the result of a forward pass. Raises ConfigError for wrong
    options and CheckpointError for a corrupt file, for another network's, and, unless `options.partial`, for
    missing or unexpected arrays.
    """
    existing = None
    if weights.is_weights_folder(destination):
        existing = weights.read_weights(destination).model.name
    elif destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ConfigError(f"{destination} is not empty and not a weights folder: choose another")
    with console.phase("read") as phase:
        opened = weight_files.open_file(source, functools.partial(console.log_progress, "download"))
        phase.text = f"{len(opened.arrays)} arrays of {source}"
    given = foreign.describe(opened, options)
    if existing not in (None, given.model.name):
        raise ConfigError(f"{destination} has weights of {existing}: choose another, or remove it")
    converted = convert.from_layout(given.layout, given.arrays, given.model, given.shape)
    _print(given, converted)
    if not converted.arrays:
        raise CheckpointError(f"{source} has no array of this network")
    wrong = (*converted.missing, *converted.unexpected)
    if wrong and not options.partial:
        raise CheckpointError(
            f"{source} does not match the network: {len(converted.missing)} arrays missing, "
            f"{len(converted.unexpected)} unexpected ({wrong[0]}, ...); --partial imports the others"
        )
    found, notes, preprocessing = dict(converted.arrays), list(given.notes), None
    if given.preset is not None:
        size, *_, channels = given.shape
        mean, std, bgr = given.preset
        preprocessing = weights.Preprocessing(size, mean[:channels], std[:channels])
        if bgr:
            found, first = foreign.channels_reversed(found)
            notes.append(f"{first}: input channels reversed, because the file expects BGR")
    imported = weights.Weights(
        variables=weights.unflatten(found),
        model=given.model,
        input_shape=given.shape,
        classes=given.classes,
        preprocessing=preprocessing,
        missing=converted.missing,
        source={
            **opened.source,
            "layout": given.layout,
            "folded": len(converted.folded),
            "unexpected": converted.unexpected,
            "notes": notes,
        },
    )
    with console.phase("forward") as phase:
        phase.text = forward_pass(imported)
    weights.write_weights(destination, imported)
    if preprocessing is None:
        console.log("note", "preprocessing is unknown: give --preprocessing to predict")
    console.log("saved", str(destination))
    return imported


def forward_pass(given: weights.Weights) -> str:
    """Runs random noise through the network, with missing arrays 0, and describes the outputs.

    Raises CheckpointError if they are not finite.
    """
    expected = weights.structure(given.model, given.input_shape)
    zeros = {path: np.zeros(leaf.shape, leaf.dtype) for path, leaf in expected.items()}
    variables = weights.unflatten(zeros | weights.flatten(given.variables))
    network = models.create(given.model)
    x = np.random.default_rng(0).normal(size=(1, *given.input_shape)).astype(given.model.dtype)

    def apply(variables: Any, x: jax.Array) -> tuple[Any, Any]:
        features = network.apply(variables, x, train=False, method="features")
        return features, network.apply(variables, features, train=False, method="head")

    with xla.precision_of(given.model):
        features, logits = jax.device_get(xla.jit(apply)(variables, jnp.asarray(x)))
    if not (np.isfinite(features).all() and np.isfinite(logits).all()):
        raise CheckpointError("a forward pass gives values that are not finite: the weights are corrupt")
    text = f"features {list(features.shape)}, mean {features.mean():.4g}, largest {features.max():.4g}"
    if given.missing:
        return f"{text}; no logits: arrays are missing"
    return f"{text}; logits {list(logits.shape)}, {logits.min():.4g} to {logits.max():.4g}"


def _print(given: foreign.Description, converted: convert.Converted) -> None:
    title = f"{models.entry(given.model.name).title} in the layout of {layouts.LAYOUTS[given.layout].title}"
    console.log("network", f"{title}: {len(converted.arrays)} arrays match")
    if converted.folded:
        console.log("folded_bn", f"{len(converted.folded)} batch norms are folded into kernels")
    for note in given.notes:
        console.log("note", note)
    for what, names in (("missing", converted.missing), ("extra", converted.unexpected)):
        more = (f"and {len(names) - MAX_LISTED} more",) if len(names) > MAX_LISTED else ()
        for text in (*names[:MAX_LISTED], *more):
            console.log(what, text)
