"""Rematerialization: the same step with less memory."""

import functools

import chex
import jax
import numpy as np
import pytest

from benchmarks.jax_model import make_config, random_batch
from jaxnets import models
from jaxnets.ops.cpu_kernels import Implementation
from jaxnets.training.devices import CompiledStep
from jaxnets.training.loss import make_loss
from jaxnets.training.optimizer import make_optimizer
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.step import TrainState, make_train_step


@pytest.mark.parametrize("implementation", ["xla", "by_shape"])
def test_it_needs_less_memory_for_the_same_update(implementation: Implementation) -> None:
    config = make_config("resnet50", 64, 8)
    config.model.update({"stage_sizes": (2, 1), "width": 8})
    model = models.create(config.model).clone(implementation=implementation)
    optimizer = make_optimizer(config, 0.01)
    variables = models.initialize(model, jax.random.key(0), (1, 64, 64, 3))
    state = TrainState.create(variables, optimizer, seed=0)
    state, batch = jax.device_put((state, random_batch(config, 0)))
    make_step = functools.partial(
        make_train_step,
        model,
        make_loss(config.train),
        optimizer,
        preprocess=make_preprocess(config, train=True),
    )
    compiled = {remat: CompiledStep(jax.jit(make_step(remat=remat)), ()) for remat in (False, True)}
    states = {remat: step(state, batch)[0] for remat, step in compiled.items()}
    updates = [jax.tree.map(np.subtract, states[remat].params, state.params) for remat in (False, True)]
    chex.assert_trees_all_close(*updates, rtol=1e-3, atol=1e-6)
    assert 0 < compiled[True].memory() < 0.85 * compiled[False].memory()
