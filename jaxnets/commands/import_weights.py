"""Import weights of other libraries into a weights folder."""

import collections
import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.config import nearest
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.interop import convert, hub, layouts, weight_files, weights
from jaxnets.interop.preprocessing import (
    PRESETS,
    PreprocessingPreset,
    channels_reversed,
    from_metadata,
    preset_of,
)
from jaxnets.io import file_sha256
from jaxnets.runtime import xla
from jaxnets.runtime.console import Reporter
from jaxnets.runtime.precision import precision_of

MAX_LISTED = 12
"""Maximum number of array names to print."""
HEADS = ("AuxLogits.", "aux1.", "aux2.")
"""Prefixes of auxiliary heads."""
OUR_CROP = {"crop_pct": 1.0, "crop_mode": "center", "interpolation": "bicubic"}
"""How this package resizes images, in timm's terms."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of an import; None is inferred from the file."""

    model: str | None = None
    layout: str | None = None
    variant: str | None = None
    num_classes: int | None = None
    image_size: int | None = None
    preprocessing: str | None = None
    classes: str | None = None
    partial: bool = False


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """A file's arrays, its origin, and the hub's description of the network, or {}."""

    arrays: dict[str, np.ndarray]
    source: dict[str, Any]
    described: dict[str, Any]


def import_weights(source: str, destination: Path, options: Options) -> weights.Weights:
    """Reads a file, or hub:OWNER/NAME, and writes the weights folder `destination`.

    Prints missing and unexpected arrays and the result of a forward pass. Raises ConfigError for wrong
    options and CheckpointError for a corrupt file, for another network's, and, unless `options.partial`, for
    missing or unexpected arrays.
    """
    reporter = Reporter()
    _check_destination(destination)
    with reporter.phase("read") as phase:
        opened = _open(source, functools.partial(reporter.report_progress, "download"))
        phase.text = f"{len(opened.arrays)} arrays of {source}"
    architecture = opened.described.get("architecture")
    named = options.model or (architecture if architecture in layouts.KNOWN else None)
    network, layout = convert.recognise(layouts.normalize_torch_names(opened.arrays), named, options.layout)
    arrays, notes = _without_other_heads(opened.arrays, network, layout)
    model, shape = _describe(arrays, network, layout, options, opened.described)
    min_size = models.entry(network).auxiliary_size
    if model.auxiliary_heads and min(shape[:2]) < min_size:
        arrays, model.auxiliary_heads = _without_heads(arrays), False
        notes.append(f"auxiliary heads skipped: they need {min_size} px")
    converted = convert.from_layout(layout, arrays, model, shape)
    notes += _ignored_settings(opened.described)
    _print(reporter, converted, network, layout, notes)
    _check_complete(converted, source, partial=options.partial)
    _check_same_network(destination, network)
    preset, preprocessing = _preprocessing(network, layout, shape[0], options, opened)
    found = dict(converted.arrays)
    if preset is not None and preset.bgr:
        found, first = channels_reversed(found)
        notes.append(f"{first}: input channels reversed, because the file expects BGR")
    imported = weights.Weights(
        variables=weights.unflatten(found),
        model=model,
        input_shape=shape,
        classes=_classes(options, opened.described, model.num_classes),
        preprocessing=preprocessing,
        missing=converted.missing,
        source={
            **opened.source,
            "layout": layout,
            "folded": len(converted.folded),
            "unexpected": converted.unexpected,
            "notes": notes,
        },
    )
    with reporter.phase("forward") as phase:
        phase.text = forward_pass(imported)
    weights.write_weights(destination, imported)
    if preprocessing is None:
        reporter.line("note", "preprocessing is unknown: give --preprocessing to predict")
    reporter.line("saved", str(destination))
    return imported


def forward_pass(given: weights.Weights) -> str:
    """Runs random noise through the network, with missing arrays 0, and describes the outputs.

    Raises CheckpointError if they are not finite.
    """
    expected = weights.structure(given.model, given.input_shape)
    flat = weights.flatten(given.variables)
    complete = {path: flat.get(path, np.zeros(s.shape, s.dtype)) for path, s in expected.items()}
    network = models.create(given.model)
    x = np.random.default_rng(0).normal(size=(1, *given.input_shape)).astype(given.model.dtype)

    def apply(variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        features: Any = network.apply(variables, x, train=False, method="features")
        logits: Any = network.apply(variables, features, train=False, method="head")
        return features, logits

    with precision_of(given.model):
        features, logits = jax.device_get(xla.jit(apply)(weights.unflatten(complete), jnp.asarray(x)))
    if not (np.isfinite(features).all() and np.isfinite(logits).all()):
        raise CheckpointError("a forward pass gives values that are not finite: the weights are corrupt")
    text = f"features {list(features.shape)}, mean {features.mean():.4g}, largest {features.max():.4g}"
    if given.missing:
        return f"{text}; no logits: arrays are missing"
    return f"{text}; logits {list(logits.shape)}, {logits.min():.4g} to {logits.max():.4g}"


def _open(source: str, report: Callable[[str], None]) -> WeightFile:
    described: dict[str, Any] = {}
    path = Path(source)
    origin: dict[str, Any] = {"file": path.name}
    if source.startswith(hub.PREFIX):
        path, described, origin = hub.download(source, report)
    if path.is_dir():
        raise CheckpointError(f"{source} is a folder: give the weights file in it")
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{source} is not a regular file: give a weights file")
    if not path.is_file():
        raise CheckpointError(f"{source} does not exist: give a file, or {hub.PREFIX}OWNER/NAME for the hub")
    suffix = path.name.rpartition(".")[2].lower()
    if suffix == "safetensors":
        arrays, metadata = weight_files.read_safetensors(path)
        origin |= {"remarks": metadata} if metadata else {}
    elif suffix in ("h5", "hdf5"):
        arrays = weight_files.read_keras(path)
    elif suffix in ("pth", "pt", "bin"):
        arrays = weight_files.read_pth(path)
    else:
        raise CheckpointError(f"{path} has an unknown format: .safetensors, .h5 and .pth are supported")
    return WeightFile(arrays, {**origin, "sha256": file_sha256(path)}, described)


def _describe(
    arrays: dict[str, np.ndarray],
    network: str,
    layout: str,
    options: Options,
    described: dict[str, Any],
) -> tuple[config_dict.ConfigDict, tuple[int, ...]]:
    """The network's section of a config, and its input shape."""
    form = layouts.LAYOUTS[layout]
    if network not in form.networks:
        raise ConfigError(f"--layout={layout}: {form.title} has no {network}")
    model = config_lib.default_config().model
    model.name, model.variant = network, _variant(network, layout, options.variant)
    path = "classifier/kernel"
    kernel = arrays.get(str(form.name(network, path)))
    in_file = 1000 if kernel is None else form.read(network, path, kernel).shape[-1]
    model.num_classes = options.num_classes or in_file
    model.auxiliary_heads = layout == "torch" and _has_heads(arrays)
    shape = described.get(hub.PRETRAINED, {}).get("input_size")
    native = shape[-1] if shape else models.entry(network).native_size
    size = options.image_size or native
    models.check_image_size(network, size, flag="--image_size")
    return model, (size, size, models.entry(network).channels)


def _variant(network: str, layout: str, given: str | None) -> str | None:
    """The variant of ours that matches the library's; None for the default."""
    variants = layouts.LAYOUTS[layout].networks[network].variants
    if given is not None and given not in variants:
        listed = ", ".join(str(variant) for variant in variants if variant)
        has = f"has {listed}" if listed else "has no variants"
        raise ConfigError(f"--variant={given}: {network} of --layout={layout} {has}")
    chosen = given or variants[0]
    return None if chosen == next(iter(models.entry(network).variants), None) else chosen


def _has_heads(arrays: dict[str, np.ndarray]) -> bool:
    return any(name.startswith(HEADS) for name in arrays)


def _without_heads(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in arrays.items() if not name.startswith(HEADS)}


def _without_other_heads(
    arrays: dict[str, np.ndarray], network: str, layout: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Removes auxiliary heads whose number of classes differs from the main head's, as after fine-tuning."""
    arrays = layouts.normalize_torch_names(arrays) if layout == "torch" else dict(arrays)
    main = arrays.get("fc.bias")
    heads = {
        name: arrays[name].size
        for name in ("AuxLogits.fc.bias", "aux1.fc2.bias", "aux2.fc2.bias")
        if layout == "torch" and name in arrays
    }
    if main is None or all(size == main.size for size in heads.values()):
        return arrays, []
    note = f"auxiliary heads skipped: {max(heads.values())} classes, the main head has {main.size}"
    return _without_heads(arrays), [note]


def _preprocessing(
    network: str, layout: str, size: int, options: Options, opened: WeightFile
) -> tuple[PreprocessingPreset | None, weights.Preprocessing | None]:
    given = opened.described.get(hub.PRETRAINED, {})
    stored = from_metadata(opened.source.get("remarks", {}))
    name = options.preprocessing or (None if given else preset_of(network, layout))
    if stored is not None and options.preprocessing is None:
        preset = stored
    elif name is None and "mean" in given and "std" in given:
        preset = PreprocessingPreset(tuple(given["mean"]), tuple(given["std"]))
    elif name is None or name == "unknown":
        return None, None
    elif name not in PRESETS:
        raise ConfigError(
            f"--preprocessing={name} must be one of {', '.join(PRESETS)}, unknown{nearest(name, PRESETS)}"
        )
    else:
        preset = PRESETS[name]
    channels = models.entry(network).channels
    return preset, weights.Preprocessing(size, preset.mean[:channels], preset.std[:channels])


def _ignored_settings(described: dict[str, Any]) -> list[str]:
    """A note on crop settings of the hub's description that differ from ours."""
    given = described.get(hub.PRETRAINED, {})
    ignored = [f"{name} {given[name]}" for name, own in OUR_CROP.items() if given.get(name, own) != own]
    if not ignored:
        return []
    return [f"{', '.join(ignored)} of the source ignored: we use the full central square, bicubic"]


def _classes(options: Options, described: dict[str, Any], num_classes: int) -> tuple[str, ...] | None:
    """Class names from --classes (a text file with one per line, or a JSON list) or from the hub.

    Duplicates, as in ImageNet's list, get their index appended.
    """
    names: Sequence[str] | None = described.get("label_names")
    if options.classes is not None:
        path = Path(options.classes)
        if not path.is_file():
            raise ConfigError(f"--classes={path} is not a file: one name per line, or a JSON list")
        try:
            text = path.read_text("utf-8-sig")
            names = json.loads(text) if text.lstrip().startswith("[") else text.split("\n")
        except UnicodeDecodeError as error:
            raise ConfigError(f"--classes={path} is not UTF-8 text ({error})") from error
        except ValueError as error:
            raise ConfigError(f"--classes={path} is not a JSON list ({error})") from error
        names = [str(name).strip() for name in names if str(name).strip()]
        if len(names) != num_classes:
            raise ConfigError(f"--classes={path} has {len(names)} names, the network {num_classes} classes")
    if names is None or len(names) != num_classes:
        return None
    counts = collections.Counter(names)
    return tuple(f"{name} ({i})" if counts[name] > 1 else name for i, name in enumerate(names))


def _print(
    reporter: Reporter,
    converted: convert.Converted,
    network: str,
    layout: str,
    notes: Sequence[str],
) -> None:
    title = f"{models.entry(network).title} in the layout of {layouts.LAYOUTS[layout].title}"
    reporter.line("network", f"{title}: {len(converted.arrays)} arrays match")
    if converted.folded:
        reporter.line("folded_bn", f"{len(converted.folded)} batch norms are folded into kernels")
    for note in notes:
        reporter.line("note", note)
    for what, names in (("missing", converted.missing), ("extra", converted.unexpected)):
        for name in names[:MAX_LISTED]:
            reporter.line(what, name)
        if len(names) > MAX_LISTED:
            reporter.line(what, f"and {len(names) - MAX_LISTED} more")


def _check_complete(converted: convert.Converted, source: str, *, partial: bool) -> None:
    if not converted.arrays:
        raise CheckpointError(f"{source} has no array of this network")
    if partial or not (converted.missing or converted.unexpected):
        return
    first = (*converted.missing, *converted.unexpected)[0]
    raise CheckpointError(
        f"{source} does not match the network: {len(converted.missing)} arrays missing, "
        f"{len(converted.unexpected)} unexpected ({first}, ...); --partial imports the others"
    )


def _check_destination(destination: Path) -> None:
    if weights.is_weights_folder(destination) or not destination.exists():
        return
    if not destination.is_dir() or any(destination.iterdir()):
        raise ConfigError(f"{destination} is not empty and not a weights folder: choose another")


def _check_same_network(destination: Path, network: str) -> None:
    """Raises ConfigError if another network's weights would be overwritten."""
    if not weights.is_weights_folder(destination):
        return
    existing = weights.read_weights(destination).model.name
    if existing != network:
        raise ConfigError(f"{destination} has weights of {existing}: choose another, or remove it")
