"""Adam compared with optax and the training code, and its properties."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnets import config as config_lib
from jaxnets.errors import ConfigError
from jaxnets.training.optimizer import make_optimizer, make_schedule
from studies.by_hand.blocks import adam as by_hand
from studies.by_hand.blocks.descent import adagrad, rmsprop

STEPS = 20


def _gradients(seed: int = 0) -> list[Any]:
    generator = np.random.default_rng(seed)
    return [
        {"kernel": generator.normal(size=(3, 2)), "bias": (generator.normal(size=2),)} for _ in range(STEPS)
    ]


def _trajectory(gradients: list[Any], **options: Any) -> list[Any]:
    """Returns the parameters after each step, starting from zeros."""
    step = jax.jit(functools.partial(by_hand.adam, **options))
    parameters = jax.tree.map(jnp.zeros_like, gradients[0])
    state, trajectory = by_hand.init(parameters), []
    for gradient in gradients:
        parameters, state = step(parameters, gradient, state)
        trajectory.append(parameters)
    return trajectory


def _optax_trajectory(rule: optax.GradientTransformation, gradients: list[Any]) -> list[Any]:
    parameters = jax.tree.map(jnp.zeros_like, gradients[0])
    state, update, trajectory = rule.init(parameters), jax.jit(rule.update), []
    for gradient in gradients:
        change, state = update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, change)
        trajectory.append(parameters)
    return trajectory


def _assert_close(ours: list[Any], theirs: list[Any], rtol: float = 1e-12) -> None:
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=rtol, atol=1e-15)


@pytest.mark.usefixtures("x64")
class TestInDoublePrecision:
    @pytest.mark.parametrize(
        ("learning_rate", "beta1", "beta2", "epsilon"),
        [(0.001, 0.9, 0.999, 1e-8), (0.1, 0.8, 0.95, 1e-3), (0.1, 0.0, 0.5, 1e-8)],
    )
    def test_twenty_steps_match_optax(self, learning_rate, beta1, beta2, epsilon) -> None:
        ours = _trajectory(
            _gradients(), learning_rate=learning_rate, beta1=beta1, beta2=beta2, epsilon=epsilon
        )
        rule = optax.adam(learning_rate, b1=beta1, b2=beta2, eps=epsilon)
        _assert_close(ours, _optax_trajectory(rule, _gradients()))

    def test_twenty_steps_match_the_training_code(self) -> None:
        config = config_lib.default_config()
        config.optimizer.name, config.optimizer.learning_rate = "adam", 0.01
        schedule = make_schedule(config, total_steps=STEPS, steps_per_epoch=1)
        theirs = _optax_trajectory(make_optimizer(config, schedule), _gradients())
        _assert_close(_trajectory(_gradients(), learning_rate=0.01), theirs)

    def test_moving_average_is_a_weighted_sum(self) -> None:
        values, average = np.random.default_rng(0).normal(size=9), jnp.zeros(())
        for value in values:
            average = by_hand.moving_average(average, value, 0.9)
        weights = 0.1 * 0.9 ** np.arange(9)[::-1]
        np.testing.assert_allclose(average, weights @ values, rtol=1e-14)

    def test_moments_are_averages_of_gradients_and_squares(self) -> None:
        gradients = _gradients()
        state = by_hand.init(gradients[0])
        for gradient in gradients:
            state = by_hand.moments(gradient, state, beta1=0.9, beta2=0.999)
        for moment, beta, power in ((state.mean, 0.9, 1), (state.square, 0.999, 2)):
            weights = (1 - beta) * beta ** np.arange(STEPS)[::-1]
            kernels = np.stack([gradient["kernel"] ** power for gradient in gradients])
            expected = np.tensordot(weights, kernels, axes=1)
            np.testing.assert_allclose(moment["kernel"], expected, rtol=1e-12)
        assert state.step == STEPS

    def test_bias_corrected_average_of_a_constant_is_the_constant(self) -> None:
        average = jnp.zeros(())
        for step in range(1, 6):
            average = by_hand.moving_average(average, 7.0, 0.999)
            assert average < 0.04
            corrected = by_hand.correct_bias(average, 0.999, jnp.asarray(step))
            np.testing.assert_allclose(corrected, 7.0, rtol=1e-13)

    def test_first_step_has_the_size_of_the_learning_rate(self) -> None:
        gradient = {"a": jnp.array([1e-3, -1.0, 1e3])}
        first = _trajectory([gradient], learning_rate=0.01)[0]
        np.testing.assert_allclose(first["a"], [-0.01, 0.01, -0.01], rtol=1e-4)

    def test_steps_do_not_depend_on_the_gradient_scale(self) -> None:
        # The gradients of one parameter are 1000 times larger; its steps stay the same.
        gradients = _gradients()
        larger = [{**gradient, "kernel": 1e3 * gradient["kernel"]} for gradient in gradients]
        _assert_close(_trajectory(gradients, epsilon=0.0), _trajectory(larger, epsilon=0.0))

    def test_without_momentum_equals_bias_corrected_rmsprop(self) -> None:
        gradients = [gradient["kernel"] for gradient in _gradients()]
        parameter = square = jnp.zeros_like(gradients[0])
        corrected = jnp.zeros_like(gradients[0])
        for step, gradient in enumerate(gradients, 1):
            before = parameter
            parameter, square = rmsprop(
                parameter, gradient, square, learning_rate=0.01, decay=0.9, epsilon=0.0
            )
            corrected += (parameter - before) * (1 - 0.9**step) ** 0.5
        ours = _trajectory(gradients, learning_rate=0.01, beta1=0.0, beta2=0.9, epsilon=0.0)[-1]
        np.testing.assert_allclose(ours, corrected, rtol=1e-12)

    def test_without_decay_and_with_decreasing_rate_equals_adagrad(self) -> None:
        # Section 5 of the paper: beta1 = 0, beta2 -> 1, learning rate divided by sqrt(step).
        gradients = [gradient["kernel"] for gradient in _gradients()]
        parameter = total = jnp.zeros_like(gradients[0])
        ours, state = parameter, by_hand.init(parameter)
        for step, gradient in enumerate(gradients, 1):
            parameter, total = adagrad(parameter, gradient, total, learning_rate=0.1, epsilon=0.0)
            rate = {"learning_rate": 0.1 / step**0.5, "epsilon": 0.0}
            ours, state = by_hand.adam(ours, gradient, state, beta1=0.0, beta2=1 - 1e-8, **rate)
        np.testing.assert_allclose(ours, parameter, rtol=1e-6)


def test_state_has_two_numbers_per_parameter() -> None:
    parameters = _gradients()[0]
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert size(by_hand.init(parameters)) - 1 == 2 * size(parameters)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_are_preserved(dtype: Any) -> None:
    parameter = jnp.ones(3, dtype)
    (updated, state) = jax.eval_shape(by_hand.adam, parameter, parameter, by_hand.init(parameter))
    assert {updated.dtype, state.mean.dtype, state.square.dtype} == {parameter.dtype}


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        ({"w": (4, 1)}, r"\['w'\] has shape \(4,\), but its gradient has shape \(4, 1\)"),
        ({}, r"parameter \['w'\] has no gradient"),
        ({"w": (4,), "v": (1,)}, r"gradient \['v'\] has no parameter"),
    ],
)
def test_mismatched_gradients_raise(gradients: dict, message: str) -> None:
    parameters = {"w": jnp.ones(4)}
    given = {name: jnp.ones(shape) for name, shape in gradients.items()}
    with pytest.raises(ConfigError, match=message):
        by_hand.adam(parameters, given, by_hand.init(parameters))
