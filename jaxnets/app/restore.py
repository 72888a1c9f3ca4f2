"""From a run directory back to a trained network."""

import functools
from pathlib import Path
from typing import Any

import jax
from ml_collections import config_dict

from jaxnets import models
from jaxnets.app import workdir
from jaxnets.app.rule import make_rule
from jaxnets.errors import CheckpointError
from jaxnets.evaluation import result as results
from jaxnets.training.checkpoint import Checkpoints
from jaxnets.training.parts import NetworkParts
from jaxnets.training.state import TrainState


def restore_state(
    directory: Path, config: config_dict.ConfigDict, shape: tuple[int, ...]
) -> tuple[TrainState, int, list[str]]:
    """The state that a run was tested with, its step, and what is damaged, for inputs of `shape`.

    That is the checkpoint that result.json names; before there is one, the newest whole one.
    Raises CheckpointError where no checkpoint is whole or the network is another.
    """
    checkpoints = Checkpoints(directory / workdir.CHECKPOINTS, keep=config.checkpoint.keep)
    step, damaged = checkpoints.newest_whole()
    if step is None:
        reason = f": {damaged[0]}" if damaged else f" in {checkpoints.folder}"
        raise CheckpointError(
            f"no whole checkpoint{reason}; train with --workdir={directory} first"
        )
    template = jax.eval_shape(functools.partial(_initial_state, config, shape))
    result = results.read(directory)
    if result is not None and result["step"] in checkpoints.steps():
        tested = result["step"]
        if checkpoints.damage(tested) is None:
            step = tested
    return checkpoints.restore(step, template)[0], step, damaged


def _initial_state(config: config_dict.ConfigDict, shape: tuple[int, ...]) -> Any:
    model = models.create(config.model)
    variables = models.initialize(model, jax.random.key(0), (1, *shape))
    given = config.transfer.weights is not None
    parts = NetworkParts.of(model, (1, *shape)) if given else None
    rule = make_rule(config, parts, total_steps=1, steps_per_epoch=1)
    return TrainState.create(
        variables,
        rule.optimizer,
        seed=config.seed,
        with_ema=config.train.ema_decay is not None,
    )
