"""Pretrained backbones: finds weights, checks that they fit and inserts them into a new network."""

import dataclasses
import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.experiment import workdir
from jaxnets.experiment.restore import restore_state
from jaxnets.experiment.run_directory import RunDirectory, open_run, print_warnings
from jaxnets.interop.weights import is_weights_folder, read_weights, structure, unflatten
from jaxnets.runtime.console import Reporter
from jaxnets.runtime.xla import precision_of
from jaxnets.training.state import BackboneHeadPartition

RANDOM, WEIGHTS = "random", "weights"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """The variables of a trained network, its `config.model`, and the preprocessing that it expects.

    `mean` and `std` (as data.mean and data.std) are None if they are unknown. If the variables come from a
    resumed run's own checkpoint, `backbone_sha256` is that of the backbone which the run started with.
    """

    path: Path
    variables: Mapping[str, Any]
    model: config_dict.ConfigDict
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    backbone_sha256: str | None = None


def open_pretrained(
    config: config_dict.ConfigDict,
    reporter: Reporter,
    existing: RunDirectory | None,
    user_set: Collection[str] = (),
    *,
    ignore_damage: bool = False,
) -> Pretrained | None:
    """The weights of transfer.weights, or None; sets the variant and preprocessing that they need.

    Args:
        config: the run's config, which is modified.
        reporter: prints what was changed.
        existing: the run that is resumed; its checkpoint is used if the weights no longer exist.
        user_set: the fields that the user set.
        ignore_damage: warn about files that do not match their checksum instead of raising.

    Raises:
        CheckpointError: there are no such weights, or they belong to another network.
        ConfigError: the user set another preprocessing than the weights expect.
    """
    name = config.transfer.weights
    if name in (None, RANDOM):
        return None
    candidates = (Path(name), config_lib.data_root(config) / WEIGHTS / name)
    for folder in candidates:
        if is_weights_folder(folder) or (folder / workdir.CONFIG).is_file():
            found = _read(folder, reporter, ignore_damage=ignore_damage)
            _apply_pretrained_settings(config, found, reporter, user_set)
            return found
    if (own := _from_own_checkpoint(config, reporter, existing)) is not None:
        return own
    if candidates[0].is_file():
        raise CheckpointError(
            f"--config.transfer.weights={name} is a file: run scripts/import_weights.py {name} FOLDER first"
        )
    raise CheckpointError(
        f"--config.transfer.weights={name}: neither {candidates[0]} nor {candidates[1]} is a weights folder "
        "or a run directory (made by scripts/import_weights.py and scripts/train.py)"
    )


def restore_pretrained_settings(config: config_dict.ConfigDict, existing: RunDirectory) -> bool:
    """Sets variant and preprocessing as `existing` has them, without opening the weights.

    False, and nothing is set, unless both configs name the same weights.
    """
    name = config.transfer.weights
    if name in (None, RANDOM) or existing.config.transfer.weights != name:
        return False
    workdir.copy_pretrained_settings(config, existing.config)
    return True


def _from_own_checkpoint(
    config: config_dict.ConfigDict, reporter: Reporter, existing: RunDirectory | None
) -> Pretrained | None:
    """The backbone in the newest checkpoint of a run that was started with the same weights, or None."""
    if existing is None or existing.checkpoints().latest_valid()[0] is None:
        return None
    if not restore_pretrained_settings(config, existing):
        return None
    found = _read_run(existing, reporter)
    reporter.line(
        "note",
        f"{config.transfer.weights} not found: using the backbone in the checkpoint of {existing.path}",
    )
    return dataclasses.replace(found, backbone_sha256=existing.manifest.get("backbone_sha256"))


def _read(folder: Path, reporter: Reporter, *, ignore_damage: bool) -> Pretrained:
    if is_weights_folder(folder):
        weights = read_weights(folder)
        expected = weights.preprocessing
        mean, std = (None, None) if expected is None else (expected.mean, expected.std)
        return Pretrained(folder, weights.variables, weights.model, mean, std)
    run = open_run(folder, ignore_damage=ignore_damage)
    print_warnings(run.warnings)
    return _read_run(run, reporter)


def _read_run(run: RunDirectory, reporter: Reporter) -> Pretrained:
    config = run.config
    with precision_of(config.model):  # may differ from that of the new run
        restored = restore_state(run)
        variables = jax.device_get(restored.state.variables(ema=config.eval.ema))
    for message in restored.warnings:
        reporter.line("warning", message)
    return Pretrained(run.path, variables, config.model, tuple(config.data.mean), tuple(config.data.std))


def _apply_pretrained_settings(
    config: config_dict.ConfigDict,
    found: Pretrained,
    reporter: Reporter,
    user_set: Collection[str] = (),
) -> None:
    """Sets variant and preprocessing as the weights need them, and prints what was changed."""
    model = config.model
    if found.model.name == model.name and model.variant is None:
        model.variant = found.model.variant
    for name in ("name", "variant", *models.OVERRIDABLE_FIELDS):
        if _value(model, name) != _value(found.model, name):
            raise CheckpointError(
                f"{found.path} has weights with model.{name}={found.model[name]}, but --config.model.{name} "
                f"is {model[name]}: set it to {found.model[name]}, or use other weights"
            )
    if found.mean is None or found.std is None:
        reporter.line("note", f"{found.path} does not specify its preprocessing: the config's is used")
        return
    for name, expected in (("mean", found.mean), ("std", found.std)):
        if f"data.{name}" in user_set and expected != tuple(config.data[name]):
            raise ConfigError(
                f"--config.data.{name}={tuple(config.data[name])} is not used, as {found.path} expects "
                f"{_format(expected)}: leave it out"
            )
    if (found.mean, found.std) != (tuple(config.data.mean), tuple(config.data.std)):
        config.data.mean, config.data.std = found.mean, found.std
        message = f"(pixels in [0, 1] - {_format(found.mean)}) / {_format(found.std)}"
        reporter.line("note", f"preprocessing follows {found.path}, which expects {message}")


def _value(model: config_dict.ConfigDict, field: str) -> Any:
    return models.variant_of(model) if field == "variant" else model[field]


def _format(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def check_backbone(config: config_dict.ConfigDict, shape: tuple[int, ...], found: Pretrained) -> None:
    """Raises CheckpointError if `found` does not fit the config's backbone for inputs [H, W, C].

    Compares shapes only; nothing is decoded or computed.
    """
    parts = BackboneHeadPartition.of(models.create(config.model), (1, *shape))
    with_backbone(unflatten(structure(config.model, shape)), found, parts)


def with_backbone(
    variables: Mapping[str, Any], found: Pretrained, parts: BackboneHeadPartition
) -> dict[str, Any]:
    """A new network's variables with the backbone replaced by the pretrained one.

    Raises CheckpointError if an array of the backbone is missing or has another shape.
    """
    return {
        collection: {**parts.split(tree)[0], **_backbone(collection, tree, found, parts)}
        for collection, tree in variables.items()
    }


def _backbone(
    collection: str, tree: Mapping[str, Any], found: Pretrained, parts: BackboneHeadPartition
) -> dict[str, Any]:
    given = _flat(found.variables.get(collection, {}))
    backbone = _flat(parts.split(tree)[1])
    if missing := sorted(set(backbone) - set(given)):
        raise CheckpointError(
            f"{found.path} lacks {collection}/{missing[0]} and {len(missing) - 1} more arrays of the "
            f"backbone: use other weights{_or_truncated(found.model.name, missing)}"
        )
    for path, leaf in backbone.items():
        if np.shape(given[path]) != leaf.shape:
            raise CheckpointError(
                f"{found.path} is of another network: {collection}/{path} has shape "
                f"{list(np.shape(given[path]))}, expected {list(leaf.shape)}"
            )
    taken = {path: jnp.asarray(given[path], leaf.dtype) for path, leaf in backbone.items()}
    return traverse_util.unflatten_dict(taken, sep="/")


def _or_truncated(network: str, missing: Sequence[str]) -> str:
    """A hint to truncate the backbone if only its last blocks are missing."""
    absent, blocks = (
        {path.partition("/")[0] for path in missing},
        models.entry(network).truncation_blocks,
    )
    fitting = [block for i, block in enumerate(blocks) if absent <= set(blocks[i + 1 :])]
    if not fitting:
        return ""
    return f", or truncate the backbone: --config.model.truncate_after={fitting[-1]}"


def backbone_sha256(variables: Mapping[str, Any], parts: BackboneHeadPartition) -> str:
    """The sha256 of the names, types and bytes of all backbone arrays."""
    digest = hashlib.sha256()
    for collection in sorted(variables):
        for path, leaf in sorted(_flat(parts.split(variables[collection])[1]).items()):
            array = np.asarray(leaf)
            digest.update(f"{collection}/{path} {array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    return traverse_util.flatten_dict(dict(tree), sep="/")
