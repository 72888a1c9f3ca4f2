"""Schedules and optimizers compared with values computed by hand; with PyTorch in test_parity.py."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnets import config as config_lib
from jaxnets.training.optimizer import get_multiplier, make_optimizer, make_schedule, set_multiplier
from jaxnets.training.transfer import BackboneHeadPartition, make_transfer_optimizer


def _config():
    config = config_lib.default_config()
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.0
    return config


def test_cosine_schedule_with_warmup() -> None:
    config = _config()
    config.schedule.name, config.schedule.warmup_epochs = "cosine", 1
    rate = make_schedule(config, total_steps=30, steps_per_epoch=10)
    np.testing.assert_allclose([rate(0), rate(5), rate(10)], [0.0, 0.05, 0.1], atol=1e-7)
    np.testing.assert_allclose([rate(20), rate(30)], [0.05, 0.0], atol=1e-7)


def test_step_schedule() -> None:
    config = _config()
    config.schedule.name, config.schedule.decay_every_steps = "step", 4
    config.schedule.decay_factor = 0.5
    rate = make_schedule(config, total_steps=12, steps_per_epoch=4)
    np.testing.assert_allclose([rate(0), rate(3), rate(4), rate(8)], [0.1, 0.1, 0.05, 0.025])


def test_multiplier_scales_the_update() -> None:
    optimizer = make_optimizer(_config(), optax.constant_schedule(0.1))
    params = {"w": jnp.array([1.0])}
    state = set_multiplier(optimizer.init(params), 0.25)
    updates, state = optimizer.update({"w": jnp.array([2.0])}, state, params)
    np.testing.assert_allclose(updates["w"], -0.1 * 0.25 * 2.0)
    assert get_multiplier(state) == 0.25


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("decoupled", [False, True])
def test_coupled_and_decoupled_weight_decay(decoupled: bool) -> None:
    config = _config()
    config.optimizer.name, config.optimizer.weight_decay = "adam", 0.5
    config.optimizer.decoupled_weight_decay = decoupled
    optimizer = make_optimizer(config, optax.constant_schedule(0.1))
    params = {"w": jnp.array([2.0])}
    updates, _ = optimizer.update({"w": jnp.array([3.0])}, optimizer.init(params), params)
    # Adam's first update is the sign of its input; decoupled decay is added to it.
    np.testing.assert_allclose(updates["w"], -0.1 * (1 + (0.5 * 2.0 if decoupled else 0)), rtol=1e-5)


@pytest.mark.parametrize("partition", [None, BackboneHeadPartition(frozenset({"a"}))])
def test_clip_grad_norm_limits_the_global_norm(partition: BackboneHeadPartition | None) -> None:
    config, schedule = _config(), optax.constant_schedule(1.0)
    config.train.clip_grad_norm = 1.0
    optimizer = make_optimizer(config, schedule)
    if partition is not None:
        optimizer = make_transfer_optimizer(config, partition, schedule, schedule)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    gradient = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose([updates["a"][0], updates["b"][0]], [-0.6, -0.8], rtol=1e-6)
