"""The training step for regression: report A's 41 parameters, and losses that are sums."""

from collections.abc import Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnets import config as config_lib
from jaxnets import models, reported
from jaxnets.data.cache import gather
from jaxnets.data.sources.points import Points
from jaxnets.training.loss import make_loss
from jaxnets.training.optimizer import make_optimizer
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.run import averages
from jaxnets.training.step import TrainState, add_metrics, make_eval_step, make_train_step

PRINTED = reported.document("mlp_tanh")["micrograd"]


def batch_of(indices: Any) -> dict[str, np.ndarray]:
    """Returns points by index, with the fields of a training batch."""
    count = len(indices)
    fields = {"epoch": np.zeros(count, np.int32), "weight": np.ones(count, np.float32)}
    return {**gather(Points(), indices), **fields}


def setup(loss: str = "sum_squared_error", dtype: str = "float64", **options: Any) -> Any:
    """Returns the initial state, the training step and the evaluation step."""
    config = config_lib.default_config()
    config.model.name, config.model.init, config.model.dtype = "mlp", "published", dtype
    config.train.loss, config.optimizer.momentum = loss, 0.0
    model, terms = models.create(config.model), make_loss(config.train)
    optimizer = make_optimizer(config, optax.constant_schedule(0.1))
    variables = models.initialize(model, jax.random.key(0), (1, 3))
    preprocess = make_preprocess(config, train=True)
    return (
        TrainState.create(variables, optimizer, seed=0),
        make_train_step(model, terms, optimizer, preprocess=preprocess, **options),
        make_eval_step(model, terms, preprocess=preprocess),
    )


def in_printed_order(params: Any) -> np.ndarray:
    """Returns the parameters by neuron, the weights and then the bias."""
    layers = (params[f"layer{number}"] for number in (1, 2, 3))
    rows = [np.column_stack([layer["kernel"].T, layer["bias"]]).ravel() for layer in layers]
    return np.concatenate(rows)


def expected_parameters() -> np.ndarray:
    return np.array([each["value"] for each in PRINTED["updated_parameters"]])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
def test_one_step_matches_the_41_parameters_of_report_a(dtype: str, tolerance: float) -> None:
    state, step, _ = setup(dtype=dtype)
    state, metrics = jax.jit(step)(state, batch_of(range(4)))
    found = in_printed_order(jax.device_get(state.params))
    assert found.shape == (41,)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected_parameters(), rtol=0, atol=tolerance)
    assert float(metrics["loss"]) == pytest.approx(5.312051880293906, abs=10 * tolerance)
    assert set(metrics) == {"loss", "examples", "gradient_norm", "steps"}


@pytest.fixture(scope="module")
def full_batch() -> Iterator[tuple[TrainState, Any]]:
    """Returns the state and metrics after a step on all four points, in float64."""
    with jax.enable_x64(True):
        state, step, _ = setup()
        yield jax.jit(step)(state, batch_of(range(4)))


@pytest.mark.usefixtures("x64")
class TestSumOfSquaredErrors:
    """Microbatches, devices and padding do not change the step; means are tested in test_step.py."""

    def check(self, found: Any, full_batch: Any) -> None:
        state, metrics = found
        chex.assert_trees_all_close(state.params, full_batch[0].params, rtol=1e-13, atol=1e-15)
        chex.assert_trees_all_close(metrics, full_batch[1], rtol=1e-13)

    def test_with_microbatches(self, full_batch: Any) -> None:
        state, step, _ = setup(grad_accum_steps=2)
        self.check(jax.jit(step)(state, batch_of(range(4))), full_batch)

    def test_on_two_devices(self, full_batch: Any) -> None:
        state, step, _ = setup(axis_name="data")
        halves = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), batch_of(range(4)))
        # vmap over an array axis stands for pmap over devices; the step only uses the axis name.
        mapped = jax.vmap(step, in_axes=(None, 0), out_axes=None, axis_name="data")
        self.check(jax.jit(mapped)(state, halves), full_batch)

    def test_with_padding(self, full_batch: Any) -> None:
        padded = batch_of([0, 1, 2, 3, 3, 0])
        padded["weight"][4:] = 0
        state, step, _ = setup()
        self.check(jax.jit(step)(state, padded), full_batch)

    def test_evaluation_in_batches_of_three(self) -> None:
        state, _, evaluate = setup()
        evaluate, sums = jax.jit(evaluate), None
        for indices, weight in (([0, 1, 2], [1, 1, 1]), ([3, 3, 3], [1, 0, 0])):
            batch = {**batch_of(indices), "weight": np.array(weight, np.float32)}
            sums = add_metrics(sums, jax.device_get(evaluate(state, batch)))
        assert sums == {"loss": pytest.approx(5.312051880293906, rel=1e-12), "examples": 4}

    def test_loss_is_averaged_over_steps(self, full_batch: Any) -> None:
        sums = add_metrics(None, jax.device_get(full_batch[1]))
        assert averages(add_metrics(sums, jax.device_get(full_batch[1]))) == averages(sums)
        assert averages(sums)["loss"] == pytest.approx(5.312051880293906, rel=1e-12)

    def test_half_squared_error_halves_the_step(self, full_batch: Any) -> None:
        first, step, _ = setup("half_squared_error")
        state, _ = jax.jit(step)(first, batch_of(range(4)))
        half = jax.tree.map(lambda a, b: (a + b) / 2, first.params, full_batch[0].params)
        chex.assert_trees_all_close(state.params, half, rtol=1e-12)


def test_mismatched_label_shapes_raise() -> None:
    config = config_lib.default_config().train
    for name in config_lib.SQUARED_ERRORS:
        config.loss = name
        with pytest.raises(ValueError, match=r"\(4, 1\)"):
            make_loss(config)(jnp.zeros((4, 1)), jnp.zeros((4, 3)), jnp.ones(4))
