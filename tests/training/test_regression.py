"""The step on values: report A's 41 parameters, and sums that nothing divides."""

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
    """Points by index, with the fields of TrainBatches."""
    count = len(indices)
    fields = {"epoch": np.zeros(count, np.int32), "weight": np.ones(count, np.float32)}
    return {**gather(Points(), indices), **fields}


def setup(loss: str = "sum_squared_error", dtype: str = "float64", **options: Any) -> Any:
    """The state before the first step, the step, and the evaluation step."""
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
    """Neuron by neuron: the weights by input, then the bias."""
    layers = (params[f"layer{number}"] for number in (1, 2, 3))
    rows = [np.column_stack([layer["kernel"].T, layer["bias"]]).ravel() for layer in layers]
    return np.concatenate(rows)


def expected_parameters() -> np.ndarray:
    return np.array([each["value"] for each in PRINTED["updated_parameters"]])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
def test_one_step_gives_the_41_parameters_of_report_a(dtype: str, tolerance: float) -> None:
    state, step, _ = setup(dtype=dtype)
    state, metrics = jax.jit(step)(state, batch_of(range(4)))
    found = in_printed_order(jax.device_get(state.params))
    assert found.shape == (41,)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected_parameters(), rtol=0, atol=tolerance)
    assert float(metrics["loss"]) == pytest.approx(5.312051880293906, abs=10 * tolerance)
    assert set(metrics) == {"loss", "examples", "gradient_norm", "steps"}


@pytest.fixture(scope="module")
def whole() -> Iterator[tuple[TrainState, Any]]:
    """What a step on all four points at once gives, in float64."""
    with jax.enable_x64(True):
        state, step, _ = setup()
        yield jax.jit(step)(state, batch_of(range(4)))


@pytest.mark.usefixtures("x64")
class TestASumIsNeverDivided:
    """Parts, devices and padding give the step of the whole batch; means are tested in test_step.py."""

    def check(self, found: Any, whole: Any) -> None:
        state, metrics = found
        chex.assert_trees_all_close(state.params, whole[0].params, rtol=1e-13, atol=1e-15)
        chex.assert_trees_all_close(metrics, whole[1], rtol=1e-13)

    def test_in_parts(self, whole: Any) -> None:
        state, step, _ = setup(grad_accum_steps=2)
        self.check(jax.jit(step)(state, batch_of(range(4))), whole)

    def test_on_two_devices(self, whole: Any) -> None:
        state, step, _ = setup(axis_name="data")
        halves = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), batch_of(range(4)))
        # What pmap maps over devices, vmap maps over an axis of arrays: the step knows its name alone.
        mapped = jax.vmap(step, in_axes=(None, 0), out_axes=None, axis_name="data")
        self.check(jax.jit(mapped)(state, halves), whole)

    def test_with_padding(self, whole: Any) -> None:
        padded = batch_of([0, 1, 2, 3, 3, 0])
        padded["weight"][4:] = 0
        state, step, _ = setup()
        self.check(jax.jit(step)(state, padded), whole)

    def test_in_evaluation_by_batches_of_three(self) -> None:
        state, _, evaluate = setup()
        evaluate, sums = jax.jit(evaluate), None
        for indices, weight in (([0, 1, 2], [1, 1, 1]), ([3, 3, 3], [1, 0, 0])):
            batch = {**batch_of(indices), "weight": np.array(weight, np.float32)}
            sums = add_metrics(sums, jax.device_get(evaluate(state, batch)))
        assert sums == {"loss": pytest.approx(5.312051880293906, rel=1e-12), "examples": 4}

    def test_a_sum_is_averaged_over_steps(self, whole: Any) -> None:
        sums = add_metrics(None, jax.device_get(whole[1]))
        assert averages(add_metrics(sums, jax.device_get(whole[1]))) == averages(sums)
        assert averages(sums)["loss"] == pytest.approx(5.312051880293906, rel=1e-12)

    def test_half_of_it_takes_half_the_step(self, whole: Any) -> None:
        first, step, _ = setup("half_squared_error")
        state, _ = jax.jit(step)(first, batch_of(range(4)))
        half = jax.tree.map(lambda a, b: (a + b) / 2, first.params, whole[0].params)
        chex.assert_trees_all_close(state.params, half, rtol=1e-12)


def test_labels_of_another_length_never_broadcast() -> None:
    config = config_lib.default_config().train
    for name in config_lib.SQUARED_ERRORS:
        config.loss = name
        with pytest.raises(ValueError, match=r"\(4, 1\)"):
            make_loss(config)(jnp.zeros((4, 1)), jnp.zeros((4, 3)), jnp.ones(4))
