"""Schedules and optimizers compared with values computed by hand; with PyTorch in test_parity.py."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets.training.optimizer import (
    get_multiplier,
    learning_rate,
    make_optimizer,
    make_schedule,
    optimizer_hyperparams,
    schedule_hyperparams,
    schedule_of,
    set_multiplier,
)
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


CASES = {
    "constant": {"name": "constant"},
    "cosine": {"name": "cosine"},
    "cosine to a tenth": {"name": "cosine", "final_fraction": 0.1},
    "cosine with warmup": {"name": "cosine", "warmup_steps": 7},
    "step": {"name": "step", "decay_every_steps": 5, "decay_factor": 0.3},
    "step with warmup": {"name": "step", "decay_every_steps": 5, "decay_factor": 0.5, "warmup_steps": 3},
}
TOTAL = 24


def _optax_schedule(config: config_dict.ConfigDict) -> optax.Schedule:
    peak, settings, warmup = (
        config.optimizer.learning_rate,
        config.schedule,
        config.schedule.warmup_steps or 0,
    )
    main = {
        "constant": lambda: optax.constant_schedule(peak),
        "cosine": lambda: optax.cosine_decay_schedule(peak, TOTAL - warmup, alpha=settings.final_fraction),
        "step": lambda: optax.exponential_decay(
            peak, settings.decay_every_steps, settings.decay_factor, staircase=True
        ),
    }[settings.name]()
    if warmup:
        main = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])
    return lambda count: main(jnp.asarray(count, jnp.float32))


@pytest.mark.parametrize("case", CASES)
def test_schedules_match_optax(case: str) -> None:
    config = _config()
    config.schedule.update(CASES[case])
    hyperparams = schedule_hyperparams(config, total_steps=TOTAL, steps_per_epoch=5)
    arguments = jax.tree.map(jnp.asarray, hyperparams)
    expected = [float(_optax_schedule(config)(step)) for step in range(TOTAL + 1)]
    given = [float(jax.jit(learning_rate)(arguments, step)) for step in range(TOTAL + 1)]
    np.testing.assert_allclose(given, expected, rtol=2e-6, atol=1e-8)


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
        {"name": "adam", "weight_decay": 1e-2, "decoupled_weight_decay": True},
    ],
)
def test_numbers_as_arguments_give_the_updates_of_constants(case: str, settings: dict[str, object]) -> None:
    config = _config()
    config.train.clip_grad_norm = 20.0
    config.schedule.update(CASES[case])
    config.optimizer.update(settings)
    hyperparams = {
        "optimizer": optimizer_hyperparams(config),
        "schedule": schedule_hyperparams(config, total_steps=TOTAL, steps_per_epoch=5),
    }
    constant = make_optimizer(config, _optax_schedule(config))

    @jax.jit
    def as_arguments(hyperparams: Any, gradient: Any, state: Any, params: Any) -> Any:
        optimizer = make_optimizer(config, schedule_of(hyperparams["schedule"]), hyperparams["optimizer"])
        return optimizer.update(gradient, state, params)

    params = {"w": jax.random.normal(jax.random.key(0), (99,))}
    expected_state = state = constant.init(params)
    for step in range(TOTAL):
        gradient = {"w": jax.random.normal(jax.random.key(step + 1), (99,))}
        updates, state = as_arguments(jax.tree.map(jnp.asarray, hyperparams), gradient, state, params)
        expected, expected_state = jax.jit(constant.update)(gradient, expected_state, params)
        chex.assert_trees_all_close(updates, expected, rtol=1e-5, atol=1e-8)
    chex.assert_trees_all_close(state, expected_state, rtol=1e-5)


def test_steps_of_the_schedule_are_exact() -> None:
    # 41 times the inverse of 41, with which XLA replaces a division by a constant, is below 1.
    config = _config()
    config.schedule.update({"name": "step", "decay_every_steps": 41, "decay_factor": 0.5})
    hyperparams = schedule_hyperparams(config, total_steps=99, steps_per_epoch=5)
    rates = [jax.jit(learning_rate)(jax.tree.map(jnp.asarray, hyperparams), step) for step in (40, 41, 82)]
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.025])


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
