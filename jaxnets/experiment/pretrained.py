"""A body that was trained before: where it is, what it expects, and how it gets into a new network."""

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
from jaxnets.runtime.precision import precision_of
from jaxnets.training.backbone import BackboneHeadPartition

RANDOM, WEIGHTS = "random", "weights"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """The variables of a network that was trained before, `model` of its recipe, and what it expects.

    `mean` and `std` are of data.mean and data.std; None where they are not known. Of a run that goes on
    from its own checkpoint, `backbone_sha256` is of the body that it began with.
    """

    where: Path
    variables: Mapping[str, Any]
    model: config_dict.ConfigDict
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    backbone_sha256: str | None = None


def open_pretrained(
    config: config_dict.ConfigDict,
    reporter: Reporter,
    begun: RunDirectory | None,
    user_set: Collection[str] = (),
    *,
    ignore_damage: bool = False,
) -> Pretrained | None:
    """The weights that a recipe begins with, or None; what follows from them is set in the recipe.

    That is the form of the network and the preprocessing. Where they are gone, a run that has `begun` has
    them in its checkpoint. Raises CheckpointError where there are none, or where they are of another network,
    ConfigError where they expect other pixels than the user asks for; `user_set` are the fields that the
    user set.
    """
    name = config.transfer.weights
    if name in (None, RANDOM):
        return None
    places = (Path(name), config_lib.data_root(config) / WEIGHTS / name)
    place = next((place for place in places if _is_readable(place)), None)
    if place is None:
        own = _own(config, reporter, begun)
        if own is None and places[0].is_file():
            raise CheckpointError(
                f"--config.transfer.weights={name} is a file: scripts/import_weights.py {name} FOLDER first"
            )
        if own is None:
            raise CheckpointError(
                f"--config.transfer.weights={name}: neither {places[0]} nor {places[1]} is a weights folder "
                "or a run directory; scripts/import_weights.py makes the one, scripts/train.py the other"
            )
        return own
    found = _read(place, reporter, ignore_damage=ignore_damage)
    _apply_pretrained_settings(config, found, reporter, user_set)
    return found


def restore_pretrained_settings(config: config_dict.ConfigDict, begun: RunDirectory) -> bool:
    """Sets what followed from the weights when a run began; they are not looked at.

    False, and nothing is set, where it began with others.
    """
    name, there = config.transfer.weights, begun.config
    if name in (None, RANDOM):
        return False
    if there.transfer.weights != name:
        return False
    workdir.copy_pretrained_settings(config, there)
    return True


def _is_readable(place: Path) -> bool:
    return is_weights_folder(place) or (place / workdir.CONFIG).is_file()


def _own(
    config: config_dict.ConfigDict, reporter: Reporter, begun: RunDirectory | None
) -> Pretrained | None:
    """The body in the newest checkpoint of a run that began with the same weights; None without one."""
    if begun is None or begun.checkpoints().latest_valid()[0] is None:
        return None
    if not restore_pretrained_settings(config, begun):
        return None
    found = _of_run(begun, reporter)
    reporter.line(
        "note", f"{config.transfer.weights} is gone: its body is in {begun.path}'s checkpoint"
    )
    return dataclasses.replace(found, backbone_sha256=begun.manifest.get("backbone_sha256"))


def _read(folder: Path, reporter: Reporter, *, ignore_damage: bool) -> Pretrained:
    if is_weights_folder(folder):
        weights = read_weights(folder)
        expected = weights.preprocessing
        return Pretrained(
            folder,
            weights.variables,
            weights.model,
            mean=None if expected is None else expected.mean,
            std=None if expected is None else expected.std,
        )
    run = open_run(folder, ignore_damage=ignore_damage)
    print_warnings(run.warnings)
    return _of_run(run, reporter)


def _of_run(run: RunDirectory, reporter: Reporter) -> Pretrained:
    config = run.config
    with precision_of(config.model):  # which need not be that of the new run
        restored = restore_state(run)
        variables = jax.device_get(restored.state.variables(ema=config.eval.ema))
    for message in restored.warnings:
        reporter.line("warning", message)
    return Pretrained(
        run.path,
        variables,
        config.model,
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
    )


def _apply_pretrained_settings(
    config: config_dict.ConfigDict,
    found: Pretrained,
    reporter: Reporter,
    user_set: Collection[str] = (),
) -> None:
    """Sets what follows from the weights, and says what differs from the recipe."""
    if found.model.name != config.model.name:
        raise CheckpointError(
            f"{found.where} has weights of {found.model.name}, and --config.model.name is "
            f"{config.model.name}: give others, or change the network"
        )
    if config.model.variant is None:
        config.model.variant = found.model.variant
    if models.variant_of(config.model) != models.variant_of(found.model):
        raise CheckpointError(
            f"{found.where} has weights of the variant {found.model.variant!r}, and "
            f"--config.model.variant is {config.model.variant!r}: leave it out"
        )
    for name in models.OVERRIDABLE_FIELDS:
        if config.model[name] != found.model[name]:
            raise CheckpointError(
                f"{found.where} has weights of a network with {name} {found.model[name]}, and "
                f"--config.model.{name} is {config.model[name]}: give {found.model[name]}"
            )
    if found.mean is None or found.std is None:
        reporter.line(
            "note", f"{found.where} does not say what pixels it expects: the recipe's stay"
        )
        return
    for name, theirs in (("mean", found.mean), ("std", found.std)):
        if f"data.{name}" in user_set and theirs != tuple(config.data[name]):
            raise ConfigError(
                f"--config.data.{name}={tuple(config.data[name])} is not used, as {found.where} expects "
                f"{_format(theirs)}: leave it out"
            )
    if (found.mean, found.std) != (tuple(config.data.mean), tuple(config.data.std)):
        config.data.mean, config.data.std = found.mean, found.std
        message = f"pixels in [0, 1] minus {_format(found.mean)}, over {_format(found.std)}"
        reporter.line("note", f"{found.where} expects {message}: that stands in the recipe's place")


def _format(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def check_backbone(
    config: config_dict.ConfigDict, shape: tuple[int, ...], found: Pretrained
) -> None:
    """Raises CheckpointError where `found` is not the body of the recipe's network for inputs [H, W, C].

    From shapes alone: nothing is decoded or computed before.
    """
    parts = BackboneHeadPartition.of(models.create(config.model), (1, *shape))
    with_backbone(unflatten(structure(config.model, shape)), found, parts)


def with_backbone(
    variables: Mapping[str, Any], found: Pretrained, parts: BackboneHeadPartition
) -> dict[str, Any]:
    """A new network's variables, the modules of its body replaced by those that were trained before.

    Raises CheckpointError where they lack an array of the body, or have it in another shape.
    """
    return {
        collection: {**parts.split(tree)[0], **_backbone(collection, tree, found, parts)}
        for collection, tree in variables.items()
    }


def _backbone(
    collection: str, tree: Mapping[str, Any], found: Pretrained, parts: BackboneHeadPartition
) -> dict[str, Any]:
    there = _flat(found.variables.get(collection, {}))
    body = _flat(parts.split(tree)[1])
    absent = sorted(set(body) - set(there))
    if absent:
        raise CheckpointError(
            f"{found.where} lacks {collection}/{absent[0]} and {len(absent) - 1} more arrays of the body: "
            f"take other weights{_or_truncated(found.model.name, absent)}"
        )
    for path, leaf in body.items():
        if np.shape(there[path]) != leaf.shape:
            raise CheckpointError(
                f"{found.where} is of another network: {collection}/{path} is "
                f"{list(np.shape(there[path]))} there and {list(leaf.shape)} here"
            )
    taken = {path: jnp.asarray(there[path], leaf.dtype) for path, leaf in body.items()}
    return traverse_util.unflatten_dict(taken, sep="/")


def _or_truncated(network: str, absent: Sequence[str]) -> str:
    """The other mend, where what is absent are whole blocks at the body's end."""
    blocks, cuts = (
        {path.partition("/")[0] for path in absent},
        models.entry(network).truncation_blocks,
    )
    fitting = [cut for place, cut in enumerate(cuts) if blocks <= set(cuts[place + 1 :])]
    return (
        f", or end the body before them: --config.model.truncate_after={fitting[-1]}"
        if fitting
        else ""
    )


def backbone_sha256(variables: Mapping[str, Any], parts: BackboneHeadPartition) -> str:
    """The sha256 of the names, types and bytes of every array of the body."""
    digest = hashlib.sha256()
    for collection in sorted(variables):
        for path, leaf in sorted(_flat(parts.split(variables[collection])[1]).items()):
            array = np.asarray(leaf)
            digest.update(f"{collection}/{path} {array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    return traverse_util.flatten_dict(dict(tree), sep="/")
