"""Pretrained backbones: finds weights and inserts them into a new network."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import CheckpointError
from jaxnets.experiment import restore
from jaxnets.experiment.run_directory import CONFIG, RunDirectory
from jaxnets.interop.weights import Weights, flatten, is_weights_folder, structure, unflatten
from jaxnets.runtime.console import Reporter
from jaxnets.training.backbone import BackboneHeadPartition

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
    *,
    ignore_damage: bool = False,
) -> Pretrained | None:
    """The weights of transfer.weights, or None if it is not set.

    Uses the checkpoint of `existing`, the run that is resumed, if the weights no longer exist. With
    `ignore_damage` files that do not match their checksum cause a warning. Raises CheckpointError if there
    are no such weights or they are damaged.
    """
    name = config.transfer.weights
    if name in (None, RANDOM):
        return None
    candidates = (Path(name), config_lib.data_root(config) / WEIGHTS / name)
    for folder in candidates:
        if is_weights_folder(folder) or (folder / CONFIG).is_file():
            weights = restore.read_weights_or_run(folder, ignore_damage=ignore_damage)
            return _pretrained(folder, weights, reporter)
    if (
        existing is not None
        and existing.config.transfer.weights == name
        and existing.checkpoints().latest_valid()[0] is not None
    ):
        found = _pretrained(existing.path, restore.read_run(existing), reporter)
        reporter.line("note", f"{name} not found: using the backbone in the checkpoint of {existing.path}")
        return dataclasses.replace(found, backbone_sha256=existing.manifest.get("backbone_sha256"))
    if candidates[0].is_file():
        raise CheckpointError(
            f"--config.transfer.weights={name} is a file: run scripts/import_weights.py {name} FOLDER first"
        )
    raise CheckpointError(
        f"--config.transfer.weights={name}: neither {candidates[0]} nor {candidates[1]} is a weights folder "
        "or a run directory (made by scripts/import_weights.py and scripts/train.py)"
    )


def _pretrained(path: Path, weights: Weights, reporter: Reporter) -> Pretrained:
    for message in weights.source.get("warnings", ()):
        reporter.line("warning", message)
    expected = weights.preprocessing
    mean, std = (None, None) if expected is None else (expected.mean, expected.std)
    return Pretrained(path, weights.variables, weights.model, mean, std)


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
    given = flatten(found.variables.get(collection, {}))
    backbone = flatten(parts.split(tree)[1])
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
    absent, blocks = {path.partition("/")[0] for path in missing}, models.entry(network).truncation_blocks
    fitting = [block for i, block in enumerate(blocks) if absent <= set(blocks[i + 1 :])]
    return f", or truncate the backbone: --config.model.truncate_after={fitting[-1]}" if fitting else ""


def backbone_sha256(variables: Mapping[str, Any], parts: BackboneHeadPartition) -> str:
    """The sha256 of the names, types and bytes of all backbone arrays."""
    digest = hashlib.sha256()
    for collection in sorted(variables):
        for path, leaf in sorted(flatten(parts.split(variables[collection])[1]).items()):
            array = np.asarray(leaf)
            digest.update(f"{collection}/{path} {array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()
