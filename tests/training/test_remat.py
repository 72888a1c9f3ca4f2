"""Rematerialization: the same step with less memory."""

import functools
from typing import Any

import chex
import jax
import numpy as np
import pytest

from benchmarks.jax_model import make_config, random_batch
from jaxnets import models
from jaxnets.ops.cpu_kernels import Implementation
from jaxnets.training.devices import Devices
from jaxnets.training.loss import make_loss
from jaxnets.training.optimizer import make_optimizer
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.step import TrainState, make_train_step


@pytest.mark.parametrize("implementation", ["xla", "by_shape"])
@pytest.mark.parametrize("grad_accum_steps", [1, 2])
def test_it_gives_the_same_update_with_less_memory(
    implementation: Implementation, grad_accum_steps: int
) -> None:
    config = make_config("resnet50", 64, 16)
    config.model.update({"stage_sizes": (2, 2), "width": 8})
    model = models.create(config.model).clone(implementation=implementation)
    optimizer = make_optimizer(config, 0.01)
    variables = models.initialize(model, jax.random.key(0), (1, 64, 64, 3))
    state = TrainState.create(variables, optimizer, seed=0)
    state, batch = jax.device_put((state, random_batch(config, 0)))
    preprocess = make_preprocess(config, train=True)
    make_step = functools.partial(
        make_train_step,
        model,
        make_loss(config.train),
        optimizer,
        preprocess=preprocess,
        grad_accum_steps=grad_accum_steps,
    )

    def update_and_memory(remat: bool) -> tuple[Any, int]:
        step = Devices.all().compile_step(make_step(remat=remat), donate=False, least_memory=remat)
        program = step.compile(state, batch)
        params = program(state, batch)[0].params
        return jax.tree.map(np.subtract, params, state.params), program.memory_analysis().temp_size_in_bytes

    (update, memory), (same, less) = update_and_memory(False), update_and_memory(True)
    chex.assert_trees_all_close(update, same, rtol=1e-3, atol=1e-6)
    assert less < 0.8 * memory
