"""Rematerialization: the same step, with activations computed again in the backward pass."""

import functools

import chex
import jax
import numpy as np
import pytest

from benchmarks.jax_model import make_config, random_batch
from jaxnets import models
from jaxnets.ops.cpu_kernels import Implementation
from jaxnets.training.loss import make_loss
from jaxnets.training.optimizer import make_optimizer
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.step import TrainState, make_train_step


@pytest.mark.parametrize("implementation", ["xla", "by_shape"])
def test_it_gives_the_same_update(implementation: Implementation) -> None:
    """XLA merges what is computed twice on CPUs, so that memory is not saved there."""
    config = make_config("resnet50", 32, 8)
    config.model.update({"stage_sizes": (1, 1), "width": 8})
    model = models.create(config.model).clone(implementation=implementation)
    optimizer = make_optimizer(config, 0.01)
    variables = models.initialize(model, jax.random.key(0), (1, 32, 32, 3))
    state = TrainState.create(variables, optimizer, seed=0)
    state, batch = jax.device_put((state, random_batch(config, 0)))
    preprocess = make_preprocess(config, train=True)
    make_step = functools.partial(
        make_train_step, model, make_loss(config.train), optimizer, preprocess=preprocess
    )
    steps = {remat: jax.jit(make_step(remat=remat)) for remat in (False, True)}
    states = [step(state, batch)[0].params for step in steps.values()]
    updates = [jax.tree.map(np.subtract, after, state.params) for after in states]
    chex.assert_trees_all_close(*updates, rtol=1e-3, atol=1e-6)
    programs = [step.lower(state, batch).as_text() for step in steps.values()]
    assert ["optimization_barrier" in program for program in programs] == [False, True]
