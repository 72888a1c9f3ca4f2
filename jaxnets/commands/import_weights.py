"""Weights of other libraries, checked and kept as a weights folder."""

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
from jaxnets.interop.preprocessing import channels_reversed, from_metadata
from jaxnets.interop.recognise import (
    CHANNELS,
    KNOWN,
    NATIVE_SIZES,
    PRESETS,
    PreprocessingPreset,
    preset_of,
    recognise,
)
from jaxnets.interop.torch_file import read_pth
from jaxnets.io import file_sha256
from jaxnets.runtime import xla
from jaxnets.runtime.console import Reporter
from jaxnets.runtime.precision import precision_of

SHOWN = 12
"""Names that are listed; of more, how many there are."""
HEADS = ("AuxLogits.", "aux1.", "aux2.")
"""What the names of auxiliary heads begin with."""
OWN_SQUARE = {"crop_pct": 1.0, "crop_mode": "center", "interpolation": "bicubic"}
"""How an image becomes the network's square here, in timm's words."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What a command says beside the source and the destination; None where the file is to say it."""

    model: str | None = None
    layout: str | None = None
    variant: str | None = None
    num_classes: int | None = None
    image_size: int | None = None
    preprocessing: str | None = None
    classes: str | None = None
    partial: bool = False


@dataclasses.dataclass(frozen=True)
class Opened:
    """A file's arrays and what came with them: the hub's description of the network, or {}."""

    arrays: dict[str, np.ndarray]
    source: dict[str, Any]
    described: dict[str, Any]


def import_weights(source: str, destination: Path, options: Options) -> weights.Weights:
    """Reads a file, or hub:OWNER/NAME, and writes the weights folder `destination`.

    Says what is missing and left over and how a forward pass went. Raises ConfigError for wrong options,
    CheckpointError for a file that is damaged or of another network, and, unless `options.partial`, where
    anything is missing or left over.
    """
    reporter = Reporter()
    _require_free(destination)
    with reporter.phase("read") as phase:
        opened = _open(source, functools.partial(reporter.report_progress, "download"))
        phase.text = f"{len(opened.arrays)} arrays of {source}"
    named = options.model or _known(opened.described.get("architecture"))
    network, layout = recognise(layouts.normalize_keys(opened.arrays), named, options.layout)
    arrays, notes = _without_other_heads(opened.arrays, network, layout)
    model, shape = _describe(arrays, network, layout, options, opened.described)
    least = models.entry(network).auxiliary_size
    if model.auxiliary_heads and min(shape[:2]) < least:
        arrays, model.auxiliary_heads = _without_heads(arrays), False
        notes.append(f"auxiliary heads left out: they need {least} px")
    converted = convert.from_layout(layout, arrays, model, shape)
    notes += _dropped(opened.described)
    _print(reporter, converted, network, layout, notes)
    _require_whole(converted, source, partial=options.partial)
    _require_same_place(destination, network)
    scheme, preprocessing = _preprocessing(network, layout, shape[0], options, opened)
    found = dict(converted.arrays)
    if scheme is not None and scheme.bgr:
        found, first = channels_reversed(found)
        notes.append(f"{first}: input channels reversed, since the file takes BGR")
    kept = weights.Weights(
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
        phase.text = forward_pass(kept)
    weights.write_weights(destination, kept)
    if preprocessing is None:
        reporter.line(
            "note", "its preprocessing is not known: give --preprocessing to predict with it"
        )
    reporter.line("saved", str(destination))
    return kept


def forward_pass(given: weights.Weights) -> str:
    """Runs a picture of noise through the network, in words; raises CheckpointError for what is not finite.

    What is missing is 0.
    """
    expected = weights.structure(given.model, given.input_shape)
    flat = weights.flatten(given.variables)
    whole = {path: flat.get(path, np.zeros(s.shape, s.dtype)) for path, s in expected.items()}
    network = models.create(given.model)
    x = np.random.default_rng(0).normal(size=(1, *given.input_shape)).astype(given.model.dtype)

    def apply(variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        features: Any = network.apply(variables, x, train=False, method="features")
        logits: Any = network.apply(variables, features, train=False, method="head")
        return features, logits

    with precision_of(given.model):
        features, logits = jax.device_get(xla.jit(apply)(weights.unflatten(whole), jnp.asarray(x)))
    if not (np.isfinite(features).all() and np.isfinite(logits).all()):
        raise CheckpointError("a forward pass gives values that are not finite: weights are broken")
    words = (
        f"features {list(features.shape)}, mean {features.mean():.4g}, largest {features.max():.4g}"
    )
    if given.missing:
        return f"{words}; logits need what is missing"
    return f"{words}; logits {list(logits.shape)}, {logits.min():.4g} to {logits.max():.4g}"


def _open(source: str, say: Callable[[str], None]) -> Opened:
    described: dict[str, Any] = {}
    path = Path(source)
    origin: dict[str, Any] = {"file": path.name}
    if source.startswith(hub.PREFIX):
        path, described, origin = hub.download(source, say)
    if path.is_dir():
        raise CheckpointError(f"{source} is a folder: give the file of weights in it")
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{source} is no regular file: give a file of weights")
    if not path.is_file():
        raise CheckpointError(
            f"{source} is not there: give a file, or {hub.PREFIX}OWNER/NAME for a hub's"
        )
    ending = path.name.rpartition(".")[2].lower()
    if ending == "safetensors":
        arrays, metadata = weight_files.read_safetensors(path)
        origin |= {"remarks": metadata} if metadata else {}
    elif ending in ("h5", "hdf5"):
        arrays = weight_files.read_keras(path)
    elif ending in ("pth", "pt", "bin"):
        arrays = read_pth(path)
    else:
        raise CheckpointError(f"{path} is of no known kind: .safetensors, .h5 and .pth are read")
    return Opened(arrays, {**origin, "sha256": file_sha256(path)}, described)


def _known(architecture: Any) -> str | None:
    """A hub's own name of a network where it is ours too; else the arrays' names must tell."""
    return architecture if architecture in KNOWN else None


def _describe(
    arrays: dict[str, np.ndarray],
    network: str,
    layout: str,
    options: Options,
    described: dict[str, Any],
) -> tuple[config_dict.ConfigDict, tuple[int, ...]]:
    """The network's section of a recipe, and the shape of its input."""
    form = layouts.LAYOUTS[layout]
    if network not in form.variants:
        raise ConfigError(f"--layout={layout}: {form.title} has no {network}")
    model = config_lib.default_config().model
    model.name, model.variant = network, _variant(network, layout, options.variant)
    path = "classifier/kernel"
    kernel = arrays.get(form.name(network, path))
    in_file = 1000 if kernel is None else form.read(network, path, kernel).shape[-1]
    model.num_classes = options.num_classes or in_file
    model.auxiliary_heads = layout == "torch" and _has_heads(arrays)
    shape = described.get(hub.PRETRAINED, {}).get("input_size")
    native = shape[-1] if shape else NATIVE_SIZES.get(network, 224)
    size = options.image_size or native
    models.check_image_size(network, size, flag="--image_size")
    return model, (size, size, CHANNELS.get(network, 3))


def _variant(network: str, layout: str, given: str | None) -> str | None:
    """The variant of ours that is the library's; None for the default."""
    variants = layouts.LAYOUTS[layout].variants[network]
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
    """Leaves out auxiliary heads of another number of classes, which a new main head leaves behind."""
    arrays = layouts.normalize_keys(arrays) if layout == "torch" else dict(arrays)
    main = arrays.get("fc.bias")
    heads = {
        name: arrays[name].size
        for name in ("AuxLogits.fc.bias", "aux1.fc2.bias", "aux2.fc2.bias")
        if layout == "torch" and name in arrays
    }
    if main is None or all(size == main.size for size in heads.values()):
        return arrays, []
    note = f"auxiliary heads left out: {max(heads.values())} classes beside {main.size}"
    return _without_heads(arrays), [note]


def _preprocessing(
    network: str, layout: str, size: int, options: Options, opened: Opened
) -> tuple[PreprocessingPreset | None, weights.Preprocessing | None]:
    given = opened.described.get(hub.PRETRAINED, {})
    remarked = from_metadata(opened.source.get("remarks", {}))
    name = options.preprocessing or (None if given else preset_of(network, layout))
    if remarked is not None and options.preprocessing is None:
        scheme = remarked
    elif name is None and "mean" in given and "std" in given:
        scheme = PreprocessingPreset(tuple(given["mean"]), tuple(given["std"]))
    elif name is None or name == "unknown":
        return None, None
    elif name not in PRESETS:
        raise ConfigError(
            f"--preprocessing={name}: it is one of {', '.join(PRESETS)}, unknown"
            f"{nearest(name, PRESETS)}"
        )
    else:
        scheme = PRESETS[name]
    channels = CHANNELS.get(network, 3)
    return scheme, weights.Preprocessing(size, scheme.mean[:channels], scheme.std[:channels])


def _dropped(described: dict[str, Any]) -> list[str]:
    """What a hub's description says of the way to a square, where ours is another."""
    given = described.get(hub.PRETRAINED, {})
    dropped = [
        f"{name} {given[name]}" for name, own in OWN_SQUARE.items() if given.get(name, own) != own
    ]
    if not dropped:
        return []
    return [
        f"{', '.join(dropped)} of the source not taken: ours is the whole central square, bicubic"
    ]


def _classes(
    options: Options, described: dict[str, Any], num_classes: int
) -> tuple[str, ...] | None:
    """Names from --classes, a file with one a line or a JSON list, or from the hub.

    What stands there twice, as two names of ImageNet's usual list do, has its place from 0 behind it.
    """
    names: Sequence[str] | None = described.get("label_names")
    if options.classes is not None:
        path = Path(options.classes)
        if not path.is_file():
            raise ConfigError(f"--classes={path} is no file: one name a line, or a JSON list")
        try:
            text = path.read_text("utf-8-sig")
            names = json.loads(text) if text.lstrip().startswith("[") else text.split("\n")
        except UnicodeDecodeError as error:
            raise ConfigError(f"--classes={path} is no UTF-8 text ({error})") from error
        except ValueError as error:
            raise ConfigError(f"--classes={path} is no JSON list ({error})") from error
        names = [str(name).strip() for name in names if str(name).strip()]
        if len(names) != num_classes:
            raise ConfigError(
                f"--classes={path} has {len(names)} names, and the network {num_classes} classes"
            )
    if names is None or len(names) != num_classes:
        return None
    times = collections.Counter(names)
    return tuple(
        name if times[name] == 1 else f"{name} ({place})" for place, name in enumerate(names)
    )


def _print(
    reporter: Reporter,
    converted: convert.Converted,
    network: str,
    layout: str,
    notes: Sequence[str],
) -> None:
    title = f"{models.entry(network).title}, as {layouts.LAYOUTS[layout].title} has it"
    reporter.line("network", f"{title}: {len(converted.arrays)} arrays fit")
    if converted.folded:
        reporter.line("folded", f"{len(converted.folded)} batch norms, in the kernels before them")
    for note in notes:
        reporter.line("note", note)
    for what, names in (("missing", converted.missing), ("left over", converted.unexpected)):
        for name in names[:SHOWN]:
            reporter.line(what, name)
        if len(names) > SHOWN:
            reporter.line(what, f"and {len(names) - SHOWN} more")


def _require_whole(converted: convert.Converted, source: str, *, partial: bool) -> None:
    if not converted.arrays:
        raise CheckpointError(f"{source} has nothing of this network")
    if partial or not (converted.missing or converted.unexpected):
        return
    first = (*converted.missing, *converted.unexpected)[0]
    raise CheckpointError(
        f"{source} is of another network or a part of this one: {len(converted.missing)} arrays missing, "
        f"{len(converted.unexpected)} left over ({first}, ...); --partial takes what there is"
    )


def _require_free(destination: Path) -> None:
    if weights.is_weights_folder(destination) or not destination.exists():
        return
    if not destination.is_dir() or any(destination.iterdir()):
        raise ConfigError(f"{destination} is no weights folder and not empty: choose another")


def _require_same_place(destination: Path, network: str) -> None:
    """Raises ConfigError where another network's weights would be lost; the same one's are written anew."""
    if not weights.is_weights_folder(destination):
        return
    there = weights.read_weights(destination).model.name
    if there != network:
        raise ConfigError(f"{destination} has weights of {there}: choose another, or remove it")
