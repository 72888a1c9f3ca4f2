"""Resolves the config of a run: from a file, its data and its pretrained weights to a frozen config."""

import functools
import os
from collections.abc import Collection, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models, reported
from jaxnets.data.sources.base import Source
from jaxnets.data.splits import Split
from jaxnets.errors import CheckpointError, ConfigError, DataError
from jaxnets.experiment import environment
from jaxnets.experiment.network import Pretrained
from jaxnets.interop import imagenet
from jaxnets.io import command
from jaxnets.ops import cpu_kernels
from jaxnets.runtime import console
from jaxnets.training.devices import Devices
from jaxnets.training.loss import BALANCED

AUTO, AUTO_SOURCE, DEMO = "auto", "lc25000_lung", "demo"


def load_config_or_demo(
    source: str | config_dict.ConfigDict, overrides: Mapping[str, Any]
) -> config_dict.ConfigDict:
    """The config of a file, with data.name "auto" replaced: LC25000 if it is prepared, else variant :demo.

    There is no fallback for data that are named explicitly, nor for a config without a file.
    """
    config = load_config(source, overrides)
    if config.data.name != AUTO:
        return config
    from jaxnets.data.sources.lc25000 import LC25000Lung  # other data do not need it

    root = config_lib.data_root(config)
    if LC25000Lung.locate(root) is not None:
        config.data.name = AUTO_SOURCE
        _reset_unused(config, config_lib.user_set(overrides))
        return config
    if (config.data.root or os.environ.get("JAXNETS_DATA")) and not root.is_dir():
        flag = "--config.data.root" if config.data.root else "JAXNETS_DATA"
        raise DataError(f"{flag}={root} is not a directory: correct it, or leave it out")
    problem = LC25000Lung.describe_problem(root)
    reason = f"LC25000 not found at {root}/" if problem is None else f"LC25000 is incomplete ({problem})"
    if not isinstance(source, str):
        raise DataError(f"{reason}: prepare it with {command('prepare_data')}, or set data.name")
    path = source.partition(":")[0]
    try:
        demo = load_config(f"{path}:{DEMO}", overrides)
    except ConfigError as error:
        raise ConfigError(f"{reason}, falling back to {path}:{DEMO}: {error}") from error
    console.log(
        "demo",
        f"{reason}, falling back to {demo.name}: an easy task on synthetic images; "
        f"for the real images: {command('prepare_data')} lc25000_lung --from=PATH",
    )
    return demo


def load_config(source: str | config_dict.ConfigDict, overrides: Mapping[str, Any]) -> config_dict.ConfigDict:
    """The config, or that of a file; fields that its network and data do not use are reset to their defaults.

    Raises ConfigError if the user set such a field, and the errors of `jaxnets.config.load_config`.
    """
    config = config_lib.load_config(source, overrides)
    _reset_unused(config, config_lib.user_set(overrides))
    return config


def resolve(
    config: config_dict.ConfigDict,
    source: Source,
    pretrained: Pretrained | None,
    user_set: Collection[str] = (),
) -> config_dict.FrozenConfigDict:
    """The complete config of a run: the number of classes, and the variant and preprocessing of the weights.

    Raises CheckpointError if the weights belong to another network, ConfigError if network, loss and
    preprocessing do not fit the source, or the user set another preprocessing than the weights expect.
    """
    config = config.copy_and_resolve_references()
    if pretrained is not None:
        _follow_pretrained(config, pretrained, user_set)
        if imagenet.is_name(config.transfer.weights) and config.transfer.pretrained_on is None:
            config.transfer.pretrained_on = "ImageNet"
    models.check_kind(config.model.name, source.kind)
    if source.kind == "vector":
        _check_regression(config, source.name)
    classes = len(source.classes)
    if config.model.num_classes not in (0, classes):
        raise ConfigError(
            f"--config.model.num_classes={config.model.num_classes}, but {source.name} has "
            f"{classes} classes; leave it out, or set it to 0"
        )
    config.model.num_classes = classes
    if config.train.class_weights != (BALANCED,) and len(config.train.class_weights) not in (0, classes):
        raise ConfigError(
            f"--config.train.class_weights has {len(config.train.class_weights)} values, "
            f"but {source.name} has {classes} classes"
        )
    if source.kind == "image":
        models.check_image_size(config.model.name, config.data.image_size)
        _check_channels(config, source[0]["image"].shape[-1])
    else:
        models.check_lengths(config.model, len(source[0]["input"]), len(source[0]["label"]))
    return config_dict.FrozenConfigDict(config)


def _reset_unused(config: config_dict.ConfigDict, user_set: Collection[str]) -> None:
    """Resets unused fields, values that the network does not have, and an entry of another network or data.

    The entry is retained if only the pretraining data or `truncate_after` differ: the verdict names both.
    """
    config_lib.reset_unused(config, user_set)
    problems = models.values_for_other_networks(config.model)
    if config.data.name != AUTO and (difference := _difference_from_entry(config)):
        problems["entry"] = (
            f"--config.entry={config.entry} is not comparable with this run, as {difference}: leave it out"
        )
    for path, problem in problems.items():
        if path in user_set:
            raise ConfigError(problem)
        config_lib.set_field(config, path, config_lib.FIELDS[path].default)


def _difference_from_entry(config: config_dict.ConfigDict) -> str:
    """The first difference of network or data from the reported entry; "" if there is none."""
    if config.entry is None:
        return ""
    entry = reported.entry(config.entry)
    expected = {"model.name": entry["model"], "data.name": entry["data"]}
    if entry["variant"] is not None:
        expected["model.variant"] = entry["variant"]
    for name in (*models.OVERRIDABLE_FIELDS, "stage_sizes", "width", "layer_sizes", "activations"):
        expected[f"model.{name}"] = entry.get(name, config_lib.FIELDS[f"model.{name}"].default)
    for path, value in expected.items():
        if (actual := config_lib.get_field(config, path)) != value:
            return f"--config.{path}={actual} and the entry's is {value}"
    return ""


def _follow_pretrained(config: config_dict.ConfigDict, found: Pretrained, user_set: Collection[str]) -> None:
    """Sets variant and preprocessing as the weights need them, and prints what was changed."""
    model = config.model
    if found.model.name == model.name and model.variant is None:
        model.variant = found.model.variant
    for name in ("name", "variant", *models.OVERRIDABLE_FIELDS, "stage_sizes", "width"):
        value, expected = (
            models.variant_of(each) if name == "variant" else each[name] for each in (model, found.model)
        )
        if value != expected:
            source = imagenet.source_of(model.name) if name == "name" else ""
            raise CheckpointError(
                f"{found.path} has weights with model.{name}={expected}, but --config.model.{name} is "
                f"{value}: set it to {expected}, or use other weights" + (f" ({source})" if source else "")
            )
    if found.mean is None or found.std is None:
        console.log("note", f"{found.path} does not specify its preprocessing: the config's is used")
        return
    changed = False
    for name, expected in (("mean", found.mean), ("std", found.std)):
        given = tuple(config.data[name])
        if given != expected and f"data.{name}" in user_set:
            raise ConfigError(
                f"--config.data.{name}={given} is not used, as {found.path} expects {_format(expected)}: "
                "leave it out"
            )
        changed |= given != expected
        config.data[name] = expected
    if changed:
        message = f"(pixels in [0, 1] - {_format(found.mean)}) / {_format(found.std)}"
        console.log("note", f"preprocessing follows {found.path}, which expects {message}")


def _format(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _check_regression(config: config_dict.ConfigDict, name: str) -> None:
    targets = f"but {name} has real-valued targets: set it to"
    if config.train.loss not in config_lib.SQUARED_ERRORS:
        losses = ", ".join(config_lib.SQUARED_ERRORS)
        raise ConfigError(f"--config.train.loss={config.train.loss} needs classes, {targets} one of {losses}")
    if config.monitor.metric != "validation_loss":
        raise ConfigError(
            f"--config.monitor.metric={config.monitor.metric} needs classes, {targets} validation_loss"
        )


def _check_channels(config: config_dict.ConfigDict, channels: int) -> None:
    for name in ("mean", "std"):
        if len(config.data[name]) not in (1, channels):
            raise ConfigError(
                f"--config.data.{name} has {len(config.data[name])} values, "
                f"but the images have {channels} channels"
            )
    for name in ("hue", "saturation", "stain"):
        if config.augment[name] and channels != 3:
            raise ConfigError(f"--config.augment.{name} needs colour, but the images have {channels} channel")


def check_not_empty(split: Split) -> None:
    """Raises ConfigError if there are no training examples; notes that there are no test examples."""
    if len(split.train) == 0:
        raise ConfigError("the split leaves no train examples: change --config.data.fractions or data.split")
    if len(split.test) == 0:
        console.log("note", "the split leaves no test examples: the network is trained and not tested")


def check_validation(config: config_dict.ConfigDict, split: Split) -> None:
    """Raises ConfigError if a split without validation examples has a callback or a test that needs them."""
    if len(split.validation):
        return
    fields = ("early_stopping.patience", "plateau.patience", "eval.use_best")
    for path in fields:
        if config_lib.get_field(config, path) != config_lib.FIELDS[path].default:
            raise ConfigError(
                f"--config.{path} needs validation examples, and the {split.name} split has none: remove it, "
                "or set --config.data.validation_fraction=0.1"
            )


def check_divisible(config: config_dict.ConfigDict, examples: int, devices: Devices) -> None:
    """Raises ConfigError unless each batch is divisible by the devices and by the microbatches."""
    size, parts = config.train.batch_size, config.train.grad_accum_steps
    change = "change --config.train.batch_size"
    batches = {size: ("a batch", change)}
    last = examples % size
    if last and not config.train.drop_last:
        batches[last] = ("an epoch's last batch", f"set --config.train.drop_last=True, or {change}")
    for batch, (name, remedy) in batches.items():
        if batch % devices.count:
            raise ConfigError(f"{name} of {batch} is not divisible by {devices.count} devices: {remedy}")
        per_device = batch // devices.count
        if per_device % parts:
            raise ConfigError(
                f"{name} of {batch} gives each device {per_device} examples, not divisible by "
                f"--config.train.grad_accum_steps={parts}: {remedy}"
            )
    if examples < size and config.train.drop_last:
        raise ConfigError(
            f"{examples} training examples are fewer than one batch of {size}: {change}, "
            "or train on the smaller batch with --config.train.drop_last=False"
        )


def check_bfloat16(config: config_dict.ConfigDict) -> None:
    """Raises ConfigError on a CPU where training in bfloat16 would be slower than in float32.

    XLA computes its convolutions in float32 there, with conversions around them, at a fifth of the speed.
    """
    if config.model.compute_dtype != "bfloat16" or jax.default_backend() != "cpu":
        return
    flag, kernels = "--config.model.compute_dtype=bfloat16", environment.kernels_of(config)
    if kernels is None:
        raise ConfigError(
            f"{flag} needs the C++ kernels on a CPU: leave out --nokernels, or run {command('build_kernels')}"
        )
    if not (kernels.multiplies_bfloat16 or cpu_kernels.emulates_bfloat16()):
        raise ConfigError(
            f"{flag}: this CPU has no instructions for bfloat16 (AVX512-BF16 or AMX), so that float32 is "
            f"faster; {cpu_kernels.EMULATE_BFLOAT16}=1 emulates them, for tests only"
        )


def check_batch_norm(
    config: config_dict.ConfigDict, model: nn.Module, channels: int, examples: int, devices: Devices
) -> None:
    """Raises ConfigError if a batch of one image gives batch normalisation one value per channel.

    The forward pass is traced (shapes only), and only if some batch has one image.
    """
    if "model.sync_batch_norm" in config_lib.unused(config) or config.transfer.freeze_backbone:
        return
    shared = devices.count if config.model.sync_batch_norm else 1
    parts = devices.count * config.train.grad_accum_steps
    size, last = config.train.batch_size, examples % config.train.batch_size
    sizes = [size] if examples >= size else []
    if last and not config.train.drop_last:
        sizes.append(last)
    if all(size // parts * shared > 1 for size in sizes):
        return
    shape = (1, config.data.image_size, config.data.image_size, channels)
    model, key = model.clone(axis_name=None), jax.random.key(0)
    variables = jax.eval_shape(functools.partial(models.initialize, model, shape=shape), key)
    images = jax.ShapeDtypeStruct(shape, jnp.dtype(config.model.dtype))
    train = functools.partial(model.apply, train=True, mutable=["batch_stats"], rngs={"dropout": key})
    jax.eval_shape(train, variables, images)
