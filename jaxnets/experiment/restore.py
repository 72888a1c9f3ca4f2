"""Restores the trained state of a run directory."""

import dataclasses
import functools
from typing import Any

import jax
from ml_collections import config_dict

from jaxnets import models
from jaxnets.errors import CheckpointError
from jaxnets.evaluation import result as results
from jaxnets.experiment.optimizer import make_optimizer_bundle
from jaxnets.experiment.run_directory import UNUSABLE, RunDirectory
from jaxnets.training.state import BackboneHeadPartition, TrainState


@dataclasses.dataclass(frozen=True)
class Restored:
    """A run's state, its step, and warnings for the user."""

    state: TrainState
    step: int
    warnings: tuple[str, ...]


def restore_state(run: RunDirectory, shape: tuple[int, ...] | None = None) -> Restored:
    """The state that a run was tested with, for inputs of `shape` (by default the shape it was trained on).

    This is the checkpoint that result.json names or, for an unfinished run, the newest valid one. Raises
    CheckpointError if the former is damaged (with `ignore_damage` it warns and uses the latter), if no
    checkpoint is valid, or if it is of another network.
    """
    shape = shape or run.input_shape
    checkpoints = run.checkpoints()
    step, damaged = checkpoints.latest_valid()
    if step is None:
        reason = f": {damaged[0]}" if damaged else f" in {checkpoints.folder}"
        remedy = f"train with --workdir={run.path} first" if run.result is None else UNUSABLE
        raise CheckpointError(f"no valid checkpoint{reason}: {remedy}")
    warnings = list(damaged)
    tested = None if run.result is None else run.result["step"]
    if tested is not None and tested != step:
        damage = checkpoints.damage(tested)
        if damage is None:
            step = tested
        elif not run.ignore_damage:
            raise CheckpointError(
                f"the checkpoint that {results.RESULT} was measured with is damaged ({damage}): restore it "
                f"from a backup, or use step {step} instead with --ignore_damage"
            )
        else:
            warnings = [
                f"step {tested}, which {results.RESULT} was measured with, is damaged ({damage}): "
                f"using step {step}"
            ]
    template = jax.eval_shape(functools.partial(_initial_state, run.config, shape))
    return Restored(checkpoints.restore(step, template)[0], step, tuple(warnings))


def _initial_state(config: config_dict.ConfigDict, shape: tuple[int, ...]) -> Any:
    model = models.create(config.model)
    variables = models.initialize(model, jax.random.key(0), (1, *shape))
    transfer = config.transfer.weights is not None
    parts = BackboneHeadPartition.of(model, (1, *shape)) if transfer else None
    optimizer = make_optimizer_bundle(config, parts, total_steps=1, steps_per_epoch=1).optimizer
    with_ema = config.train.ema_decay is not None
    return TrainState.create(variables, optimizer, seed=config.seed, with_ema=with_ema)
