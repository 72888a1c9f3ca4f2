"""Import weights of other libraries into a weights folder."""

import functools
from pathlib import Path

import numpy as np

from jaxnets import models
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.interop import convert, foreign, layouts, weight_files, weights
from jaxnets.runtime import console

MAX_LISTED = 12
"""Maximum number of array names to print."""


def import_weights(source: str, destination: Path, options: foreign.Options) -> weights.Weights:
    """Reads a file, or hub:OWNER/NAME, and writes the weights folder `destination`.

    Prints missing and unexpected arrays. Raises ConfigError for wrong options and CheckpointError for a
    corrupt file, for another network's, and, unless `options.partial`, for missing or unexpected arrays.
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
            f"{source} does not match the network: {len(converted.missing)} missing and "
            f"{len(converted.unexpected)} unexpected arrays ({wrong[0]}, ...); --partial imports the others"
        )
    if infinite := [path for path, array in converted.arrays.items() if not np.isfinite(array).all()]:
        raise CheckpointError(f"{source} is corrupt: {infinite[0]} has values that are not finite")
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
    weights.write_weights(destination, imported)
    if preprocessing is None:
        console.log("note", "preprocessing is unknown: give --preprocessing to predict")
    console.log("saved", str(destination))
    return imported


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
