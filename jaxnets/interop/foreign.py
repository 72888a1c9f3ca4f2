"""What a weight file of another library is of: its network, its classes and its preprocessing."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import CheckpointError, ConfigError, suggest
from jaxnets.interop import layouts
from jaxnets.interop.convert import recognise
from jaxnets.interop.weight_files import PRETRAINED, WeightFile
from jaxnets.interop.weights import Preprocessing, Weights

HEADS = ("AuxLogits.", "aux1.", "aux2.")
HEAD_BIASES = ("AuxLogits.fc.bias", "aux1.fc2.bias", "aux2.fc2.bias")
"""Prefixes of auxiliary heads, and the arrays that have one number per class."""
OUR_CROP = {"crop_pct": 1.0, "crop_mode": "center", "interpolation": "bicubic"}
"""How this package resizes images, in timm's terms."""
CLASSIFIER = "classifier/kernel"
METADATA_KEY = "jaxnets preprocessing"


class PreprocessingPreset(NamedTuple):
    """Mean and std of RGB pixels in [0, 1]; with `bgr` the channels are then reversed."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False


PRESETS = {
    "imagenet": PreprocessingPreset((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": PreprocessingPreset((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "inception_2015": PreprocessingPreset((128 / 255,) * 3, (128 / 255,) * 3),
    "caffe": PreprocessingPreset((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3, bgr=True),
}
"""imagenet: torchvision; half: scales to [-1, 1], "tf" in Keras; caffe: Keras's ResNet."""
PRESET_OF = {
    **{("keras", name): "caffe" for name in ("resnet50", "resnet101", "resnet152", "vgg16")},
    ("keras", "xception"): "half",
    ("keras", "nasnet_mobile"): "half",
    ("keras", "densenet121"): "imagenet",
    ("keras", "inception_v3"): "half",
    ("keras", "inception_resnet_v2"): "half",
    ("keras", "mobilenet_v2"): "half",
    ("keras", "efficientnet_b0"): "imagenet",
    ("keras", "convnext_tiny"): "imagenet",
    ("inception_2015", "inception_v3"): "inception_2015",
    **{("efficientnet_pytorch", f"efficientnet_lite{number}"): "half" for number in (0, 1, 2)},
}
"""The preset of a library's own weights by (layout, network), where the library has only one."""


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


class Description(NamedTuple):
    """What a file contains: `model` is a section of a config, `notes` name what was left out."""

    arrays: dict[str, np.ndarray]
    layout: str
    model: config_dict.ConfigDict
    shape: tuple[int, ...]
    classes: tuple[str, ...] | None
    preset: PreprocessingPreset | None
    notes: list[str]


def describe(opened: WeightFile, options: Options) -> Description:
    """What is in the file, by `options`, its array names and the hub's description.

    Raises ConfigError for options that do not apply, CheckpointError for a network that is not ours.
    """
    arrays = layouts.normalize_torch_names(opened.arrays)
    architecture = opened.described.get("architecture")
    named = options.model or (architecture if architecture in layouts.KNOWN else None)
    network, layout = recognise(arrays, named, options.layout)
    entry, pretrained = models.entry(network), opened.described.get(PRETRAINED, {})
    size = options.image_size or (pretrained.get("input_size") or [entry.native_size])[-1]
    models.check_image_size(network, size, flag="--image_size")
    notes: list[str] = []
    if layout == "torch":
        arrays, notes = _without_unusable_heads(arrays, size, entry.auxiliary_size)
    ignored = [
        f"{name} {pretrained[name]}" for name, own in OUR_CROP.items() if pretrained.get(name, own) != own
    ]
    if ignored:
        notes.append(f"{', '.join(ignored)} of the source ignored: we use the full central square, bicubic")
    model = model_of(arrays, network, layout, options)
    shape, classes = (size, size, entry.channels), _classes(options, opened, model.num_classes)
    preset = _preset(network, layout, options, opened)
    if preset is not None and min(len(preset.mean), len(preset.std)) < entry.channels:
        raise CheckpointError(
            f"{network} has {entry.channels} channels, and the described mean or std has fewer: "
            "pass --preprocessing=unknown, or another one"
        )
    return Description(arrays, layout, model, shape, classes, preset, notes)


def _without_unusable_heads(
    arrays: dict[str, np.ndarray], size: int, min_size: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Without auxiliary heads that need larger images or have other classes (after fine-tuning); notes."""
    main = arrays.get("fc.bias")
    classes = [arrays[name].size for name in HEAD_BIASES if name in arrays]
    if main is not None and any(count != main.size for count in classes):
        reason = f"{max(classes)} classes, the main head has {main.size}"
    elif size < min_size and _has_heads(arrays):
        reason = f"they need {min_size} px"
    else:
        return arrays, []
    rest = {name: array for name, array in arrays.items() if not name.startswith(HEADS)}
    return rest, [f"auxiliary heads skipped: {reason}"]


def _has_heads(arrays: Mapping[str, np.ndarray]) -> bool:
    return any(name.startswith(HEADS) for name in arrays)


def model_of(
    arrays: Mapping[str, np.ndarray], network: str, layout: str, options: Options
) -> config_dict.ConfigDict:
    """The network's section of a config, with the variant of ours that matches the library's."""
    form = layouts.LAYOUTS[layout]
    if network not in form.networks:
        raise ConfigError(f"--layout={layout}: {form.title} has no {network}")
    variants = form.networks[network].variants
    variant = options.variant or variants[0]
    if variant not in variants:
        has = "has no variants" if None in variants else f"has only {', '.join(map(str, variants))}"
        raise ConfigError(f"--variant={variant}: {network} of --layout={layout} {has}")
    kernel = arrays.get(str(form.name(network, CLASSIFIER)))
    in_file = 1000 if kernel is None else form.read(network, CLASSIFIER, kernel).shape[-1]
    if kernel is not None and options.num_classes not in (None, in_file):
        raise ConfigError(
            f"--num_classes={options.num_classes}, but the file has a classifier of {in_file} classes: "
            "leave the flag out"
        )
    model = config_lib.default_config().model
    model.name = network
    model.variant = None if variant == models.variant_of(model) else variant
    model.num_classes = options.num_classes or in_file
    model.auxiliary_heads = layout == "torch" and _has_heads(arrays)
    return model


def _preset(network: str, layout: str, options: Options, opened: WeightFile) -> PreprocessingPreset | None:
    """As asked for, as the file or the hub describes it, or as the library has it; None if unknown."""
    name, described = options.preprocessing, opened.described.get(PRETRAINED, {})
    stored = from_metadata(opened.source.get("metadata", {}))
    if name is None and stored is not None:
        return stored
    if name is None and described:
        if not (described.get("mean") and described.get("std")):
            return None
        return PreprocessingPreset(tuple(described["mean"]), tuple(described["std"]))
    name = name or PRESET_OF.get((layout, network))
    if name in (None, "unknown"):
        return None
    if name not in PRESETS:
        raise ConfigError(
            f"--preprocessing={name} must be one of {', '.join(PRESETS)}, unknown{suggest(name, PRESETS)}"
        )
    return PRESETS[name]


def _classes(options: Options, opened: WeightFile, num_classes: int) -> tuple[str, ...] | None:
    """Class names from --classes (a text file with one per line, or a JSON list) or from the hub.

    Duplicates, as in ImageNet's list, get their index appended.
    """
    names: Sequence[str] | None = opened.described.get("label_names")
    if options.classes is not None:
        path = Path(options.classes)
        if not path.is_file():
            raise ConfigError(f"--classes={path} is not a file: one name per line, or a JSON list")
        try:
            text = path.read_text("utf-8-sig")
            names = json.loads(text) if text.lstrip().startswith("[") else text.split("\n")
        except ValueError as error:
            kind = "UTF-8 text" if isinstance(error, UnicodeDecodeError) else "a JSON list"
            raise ConfigError(f"--classes={path} is not {kind} ({error})") from error
        names = [str(name).strip() for name in names if str(name).strip()]
        if len(names) != num_classes:
            raise ConfigError(f"--classes={path} has {len(names)} names, the network {num_classes} classes")
    if names is None or len(names) != num_classes:
        return None
    return unique_names(names)


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names; those that occur several times have their index appended."""
    counts = collections.Counter(names)
    return tuple(f"{name} ({i})" if counts[name] > 1 else name for i, name in enumerate(names))


def is_bgr(layout: str, weights: Weights) -> bool:
    """Whether the library's network with these weights and this preprocessing expects BGR input."""
    given, preset = weights.preprocessing, PRESETS.get(PRESET_OF.get((layout, weights.model.name), ""))
    return given is not None and preset == (given.mean, given.std, True)


def channels_reversed(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """Converts a network between RGB and BGR input; returns the arrays and the path that changed.

    Only the first convolution changes, which has 3 input channels.
    """
    first = first_convolution(arrays, 3)
    return {**arrays, first: np.ascontiguousarray(arrays[first][:, :, ::-1])}, first


def first_convolution(arrays: Mapping[str, np.ndarray], channels: int) -> str:
    """The path of the kernel that the images, which have `channels` channels, enter."""
    return next(
        path
        for path, leaf in arrays.items()
        # The kernel of a depthwise convolution has one input channel.
        if leaf.ndim == 4 and leaf.shape[2] == channels and "depthwise" not in path
    )


def to_metadata(given: Preprocessing, *, bgr: bool) -> dict[str, str]:
    """Safetensors metadata that records the preprocessing."""
    return {METADATA_KEY: json.dumps({"mean": given.mean, "std": given.std, "bgr": bgr})}


def from_metadata(metadata: Mapping[str, str]) -> PreprocessingPreset | None:
    """Reads the metadata of `to_metadata`; None if absent. Raises CheckpointError if it is damaged."""
    if METADATA_KEY not in metadata:
        return None
    try:
        values = json.loads(metadata[METADATA_KEY])
        mean, std = (tuple(map(float, values[name])) for name in ("mean", "std"))
        return PreprocessingPreset(mean, std, bool(values["bgr"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the file's metadata {METADATA_KEY!r} is damaged: {error}") from error
