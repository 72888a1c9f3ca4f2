"""The small convolutional network compared with JAX, and trained on digits."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.errors import ConfigError
from studies.by_hand.blocks import network
from studies.pages import building_blocks

PAGE = Path(__file__).parents[4] / "docs" / "building_blocks.md"


def _check(steps: Sequence[Any]) -> None:
    for step in steps:
        assert step.difference < 1e-12
        assert abs(step.loss_by_hand - step.loss_by_jax) < 1e-12
    assert steps[-1].loss_by_hand < steps[0].loss_by_hand  # the network learns


@pytest.mark.usefixtures("x64")
def test_five_steps_on_digits_match_jax() -> None:
    _check(building_blocks.numbers.sides.both(5)[0])


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_two_hundred_steps_on_digits_match_jax_and_the_page() -> None:
    numbers = building_blocks.numbers
    steps, parameters = numbers.sides.both(numbers.TRAINING_STEPS)
    _check(steps)
    assert steps[-1].loss_by_hand < 0.2 * steps[0].loss_by_hand
    printed = building_blocks.blocks(PAGE.read_text())["training"]
    assert printed == numbers.of_training_steps(steps, parameters), f"run {building_blocks.__file__}"


@pytest.mark.usefixtures("x64")
def test_inference_equals_training_with_dropout_rate_0() -> None:
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 8, 8, 1)))

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def compute(x):
        parameters = network.initialize(jax.random.key(0), (8, 8, 1), 10, dtype="float64")
        without_dropout = network.forward(parameters, x, jnp.ones((4, 64), bool), rate=0.0)
        return without_dropout, network.forward(parameters, x, rate=0.5)

    chex.assert_trees_all_close(*compute(x), rtol=1e-14)


def test_image_size_not_divisible_by_4_raises() -> None:
    with pytest.raises(ConfigError, match=r"\[8, 6, 1\] are pooled twice"):
        network.initialize(jax.random.key(0), (8, 6, 1), 10)
