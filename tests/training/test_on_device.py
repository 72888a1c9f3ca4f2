"""Training on data stored on the device matches training on host batches."""

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
from jaxnets.data.dataset import IndexBatches
from jaxnets.data.sampler import EpochSampler
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue
from jaxnets.training.loss import make_loss
from jaxnets.training.on_device import LAST, PER_STEP, multi_step, with_on_device_gather
from jaxnets.training.optimizer import make_optimizer
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.step import TrainState, make_train_step

STEPS, STEPS_PER_EXECUTION = 20, 4
SOURCE = SyntheticTissue(30, 16)
EXAMPLES = gather(SOURCE, np.arange(len(SOURCE)))


def _batches(steps_per_execution: int) -> IndexBatches:
    order = EpochSampler(np.arange(27), batch_size=8, seed=3, drop_last=False)
    return IndexBatches(order, steps_per_execution=steps_per_execution)


@pytest.fixture(scope="module")
def state_and_step() -> tuple[TrainState, Any]:
    """Returns the initial state and the training step, with augmentation, dropout and EMA."""
    config = config_lib.default_config()
    config.model.name, config.model.num_classes, config.model.dropout = "lenet5", 3, 0.2
    config.model.kernel_size, config.model.implementation = 3, "xla"  # quick to trace
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


def _train_on_host_batches(state_and_step: tuple[TrainState, Any]) -> tuple[TrainState, list[float]]:
    state, losses = state_and_step[0], []
    step, batches = jax.jit(state_and_step[1]), _batches(1)
    for _ in range(STEPS):
        batch, _ = batches.next_batches(1)
        state, metrics = step(state, {name: each[batch["index"]] for name, each in EXAMPLES.items()} | batch)
        losses.append(float(metrics["loss"]))
    return state, losses


def _train_on_device_data(
    state_and_step: tuple[TrainState, Any], program: Any, steps_per_execution: int, max_steps: list[int]
) -> tuple[TrainState, list[float]]:
    examples = {name: EXAMPLES[name] for name in ("image", "label")}
    state, losses, batches = state_and_step[0], [], _batches(steps_per_execution)
    while len(losses) < STEPS:
        limit = min(max_steps[len(losses) % len(max_steps)], STEPS - len(losses))
        batch, count = batches.next_batches(limit)
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
    [(multi_step, STEPS_PER_EXECUTION), pytest.param(with_on_device_gather, 1, marks=pytest.mark.slow)],
)
def test_matches_training_on_host_batches(
    state_and_step: tuple[TrainState, Any], program: Callable[[Any], Any], steps_per_execution: int
) -> None:
    expected, losses = _train_on_host_batches(state_and_step)
    state, found = _train_on_device_data(
        state_and_step, jax.jit(program(state_and_step[1])), steps_per_execution, [steps_per_execution]
    )
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    chex.assert_trees_all_close(state, expected, rtol=1e-5, atol=1e-5)
    assert int(state.step) == STEPS


def test_results_do_not_depend_on_steps_per_call(state_and_step: tuple[TrainState, Any]) -> None:
    program = jax.jit(multi_step(state_and_step[1]))
    expected, losses = _train_on_device_data(state_and_step, program, STEPS_PER_EXECUTION, [4])
    for max_steps in ([1], [3, 1, 2]):
        state, found = _train_on_device_data(state_and_step, program, STEPS_PER_EXECUTION, max_steps)
        assert found == losses
        chex.assert_trees_all_equal(state, expected)


def test_several_steps_are_traced_once_for_each_shape(state_and_step: tuple[TrainState, Any]) -> None:
    state, step = state_and_step
    traced = []

    def counted(state: TrainState, batch: Any) -> Any:
        traced.append(batch)
        return step(state, batch)

    _train_on_device_data((state, counted), jax.jit(multi_step(counted)), STEPS_PER_EXECUTION, [4])
    assert len(traced) == 2  # for full batches and for the last, short one
