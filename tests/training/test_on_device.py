"""Steps on data on the device give the results of host batches, for any number of steps per call."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.data.cache import gather
from jaxnets.data.dataset import EpochSampler, IndexBatches
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.training.loss import make_loss
from jaxnets.training.optimizer import make_optimizer
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.step import (
    LAST,
    PER_STEP,
    TrainState,
    make_train_step,
    multi_step,
    with_on_device_gather,
)

STEPS, AT_ONCE = 20, 4
SOURCE = SyntheticTissue(30, 16)
WHOLE = gather(SOURCE, np.arange(len(SOURCE)))


def _batches(steps_per_execution: int) -> IndexBatches:
    order = EpochSampler(np.arange(27), batch_size=8, seed=3, drop_last=False)
    return IndexBatches(order, steps_per_execution=steps_per_execution)


@pytest.fixture(scope="module")
def made() -> tuple[TrainState, Any]:
    """A small network's first state, and its step with augmentation, dropout and a moving average."""
    config = config_lib.default_config()
    config.model.name, config.model.num_classes, config.model.dropout = "lenet5", 3, 0.2
    config.model.kernel_size = 3
    config.augment.flip_horizontal, config.augment.crop_padding = True, 2
    model = models.create(config.model)
    optimizer = make_optimizer(config, optax.constant_schedule(0.05))
    variables = models.initialize(model, jax.random.key(1), (1, 16, 16, 3))
    state = TrainState.create(variables, optimizer, seed=0, with_ema=True)
    step = make_train_step(
        model,
        make_loss(config.train),
        optimizer,
        preprocess=make_preprocess(config, train=True),
        ema_decay=0.9,
    )
    return state, step


def _on_the_host(made: tuple[TrainState, Any]) -> tuple[TrainState, list[float]]:
    state, losses = made[0], []
    step, batches = jax.jit(made[1]), _batches(1)
    for _ in range(STEPS):
        batch, _ = batches.next_batches(1)
        state, metrics = step(state, {name: each[batch["index"]] for name, each in WHOLE.items()} | batch)
        losses.append(float(metrics["loss"]))
    return state, losses


def _resident(
    made: tuple[TrainState, Any], program: Any, steps_per_execution: int, wanted: list[int]
) -> tuple[TrainState, list[float]]:
    examples = {name: WHOLE[name] for name in ("image", "label")}
    state, losses, batches = made[0], [], _batches(steps_per_execution)
    while len(losses) < STEPS:
        most = min(wanted[len(losses) % len(wanted)], STEPS - len(losses))
        batch, count = batches.next_batches(most)
        state, metrics = program(state, batch, examples)
        if steps_per_execution == 1:
            losses.append(float(metrics["loss"]))
        else:
            losses += metrics[PER_STEP]["loss"][:count].tolist()
            assert float(metrics[LAST]["loss"]) == losses[-1]
            assert not metrics[PER_STEP]["loss"][count:].any()
    return state, losses


@pytest.mark.parametrize(
    ("program", "steps_per_execution"),
    [(multi_step, AT_ONCE), pytest.param(with_on_device_gather, 1, marks=pytest.mark.slow)],
)
def test_the_same_parameters_as_from_the_hosts_batches(
    made: tuple[TrainState, Any], program: Callable[[Any], Any], steps_per_execution: int
) -> None:
    expected, losses = _on_the_host(made)
    state, found = _resident(made, jax.jit(program(made[1])), steps_per_execution, [steps_per_execution])
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    chex.assert_trees_all_close(state, expected, rtol=1e-5, atol=1e-5)
    assert int(state.step) == STEPS


def test_the_number_of_steps_per_call_does_not_change_the_bits(
    made: tuple[TrainState, Any],
) -> None:
    program = jax.jit(multi_step(made[1]))
    expected, losses = _resident(made, program, AT_ONCE, [4])
    for wanted in ([1], [3, 1, 2]):
        state, found = _resident(made, program, AT_ONCE, wanted)
        assert found == losses
        chex.assert_trees_all_equal(state, expected)
