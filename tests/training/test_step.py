"""Training and evaluation steps: gradient accumulation, padding, EMA, dropout and augmentation."""

import dataclasses
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.models.base import ModelOutput
from jaxnets.ops import BatchNorm
from jaxnets.training.loss import make_loss
from jaxnets.training.optimizer import make_optimizer
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.step import (
    PREDICTIONS,
    PROBABILITIES,
    TrainState,
    add_metrics,
    make_eval_step,
    make_train_step,
)


def _config(**overrides: Any):
    config = config_lib.default_config()
    config.model.name, config.model.num_classes, config.model.dtype = "lenet5", 3, "float64"
    config.model.kernel_size, config.model.implementation = 3, "xla"  # quick to trace
    config.optimizer.learning_rate = 0.05
    for path, value in overrides.items():
        config_lib.set_field(config, path.replace("__", "."), value)
    return config


def _batch(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "image": generator.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8),
        "label": generator.integers(0, 3, count, dtype=np.int32),
        "index": np.arange(count, dtype=np.int64),
        "epoch": np.zeros(count, np.int32),
        "weight": np.ones(count, np.float32),
    }


def _setup(config, **step_options: Any):
    model = models.create(config.model)
    optimizer = make_optimizer(config, optax.constant_schedule(config.optimizer.learning_rate))
    variables = models.initialize(model, jax.random.key(1), (1, 16, 16, 3))
    state = TrainState.create(variables, optimizer, seed=0, with_ema=config.train.ema_decay is not None)
    step = make_train_step(
        model,
        make_loss(config.train),
        optimizer,
        preprocess=make_preprocess(config, train=True),
        ema_decay=config.train.ema_decay,
        **step_options,
    )
    evaluate = make_eval_step(model, make_loss(config.train), preprocess=make_preprocess(config, train=False))
    return state, jax.jit(step), jax.jit(evaluate)


@pytest.mark.usefixtures("x64")
class TestTrainStep:
    def test_microbatches_match_the_full_batch(self) -> None:
        config = _config(train__class_weights=(1.0, 2.0, 0.5), augment__flip_horizontal=True)
        state, step, _ = _setup(config)
        _, accumulating_step, _ = _setup(config, grad_accum_steps=4)
        full, metrics = step(state, _batch(8))
        accumulated, accumulated_metrics = accumulating_step(state, _batch(8))
        chex.assert_trees_all_close(full.params, accumulated.params, rtol=1e-12, atol=1e-14)
        chex.assert_trees_all_close(metrics, accumulated_metrics, rtol=1e-12)

    def test_examples_of_weight_zero_have_no_effect(self) -> None:
        state, step, _ = _setup(_config())
        padded = _batch(8)
        padded["weight"][5:] = 0
        short = {name: values[:5] for name, values in padded.items()}
        with_padding, metrics = step(state, padded)
        without, expected = step(state, short)
        chex.assert_trees_all_close(with_padding.params, without.params, rtol=1e-12, atol=1e-14)
        assert float(metrics["examples"]) == float(expected["examples"]) == 5

    def test_ema_matches_its_formula(self) -> None:
        state, step, _ = _setup(_config(train__ema_decay=0.5))
        average = state.ema
        for number in range(6):
            state, _ = step(state, _batch(8, seed=number))
            decay = min(0.5, (1 + number) / (10 + number))
            average = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, average, state.params)
        chex.assert_trees_all_close(state.ema, average, rtol=1e-6)

    def test_training_lowers_the_loss(self) -> None:
        state, step, _ = _setup(_config())
        losses = []
        for _ in range(60):
            state, metrics = step(state, _batch(8))
            losses.append(float(metrics["loss"] / metrics["weight_sum"]))
        assert losses[-1] < 0.2 * losses[0]

    def test_step_is_deterministic(self) -> None:
        state, step, _ = _setup(_config(model__dropout=0.5))
        first, again = step(state, _batch(8)), step(state, _batch(8))
        chex.assert_trees_all_equal(first, again)

    def test_dropout_differs_between_steps(self) -> None:
        state, step, _ = _setup(_config(model__dropout=0.5, optimizer__learning_rate=1e-9))
        state, first = step(state, _batch(8))
        _, second = step(state, _batch(8))
        assert float(first["loss"]) != float(second["loss"])

    def test_same_shapes_are_traced_once(self) -> None:
        config = _config()
        state, _, _ = _setup(config)
        model = models.create(config.model)
        chex.clear_trace_counter()
        optimizer = make_optimizer(config, optax.constant_schedule(0.1))
        step = make_train_step(
            model, make_loss(config.train), optimizer, preprocess=make_preprocess(config, train=True)
        )
        traced_once = jax.jit(chex.assert_max_traces(step, n=1))
        for seed in range(3):
            state, _ = traced_once(state, _batch(8, seed))


@pytest.mark.usefixtures("x64")
class TestEvalStep:
    @pytest.mark.parametrize("size", [1, 3, 7, 20])
    def test_sums_do_not_depend_on_the_batch_size(self, size: int) -> None:
        state, _, evaluate = _setup(_config())
        full_batch = _batch(20)
        total: dict[str, Any] = {}
        predictions: list[np.ndarray] = []
        probabilities: list[np.ndarray] = []
        for start in range(0, 20, size):
            rows = np.minimum(np.arange(start, start + size), 19)
            batch = {name: values[rows] for name, values in full_batch.items()}
            batch["weight"] = (np.arange(start, start + size) < 20).astype(np.float32)
            sums = jax.device_get(evaluate(state, batch))
            predictions.append(sums.pop(PREDICTIONS)[batch["weight"] > 0])
            probabilities.append(sums.pop(PROBABILITIES)[batch["weight"] > 0])
            total = add_metrics(total, sums)
        expected = jax.device_get(evaluate(state, full_batch))
        np.testing.assert_array_equal(np.concatenate(predictions), expected.pop(PREDICTIONS))
        np.testing.assert_allclose(np.concatenate(probabilities), expected.pop(PROBABILITIES), rtol=1e-12)
        for name, value in expected.items():
            np.testing.assert_allclose(total[name], value, rtol=1e-12)
        assert total["examples"] == 20
        label, predicted = np.concatenate(predictions).T
        assert len(label) == 20
        assert (label == predicted).sum() == total["correct"]

    def test_dropout_depends_on_the_seed_and_the_batch(self) -> None:
        config = _config(model__dropout=0.5)
        state, _, clean = _setup(config)
        dropped = jax.jit(
            make_eval_step(
                models.create(config.model),
                make_loss(config.train),
                preprocess=make_preprocess(config, train=False),
                dropout=True,
            )
        )
        batch = _batch(8)
        chex.assert_trees_all_equal(dropped(state, batch), dropped(state, batch))
        later = {**batch, "index": batch["index"] + 8}
        losses = {float(step(state, b)["loss"]) for step in (clean, dropped) for b in (batch, later)}
        assert len(losses) == 3  # two draws, and the clean loss twice

    def test_augmentation_depends_on_the_seed_and_the_index(self) -> None:
        config = _config(augment__flip_horizontal=True, augment__mixup=0.2)
        clean = make_preprocess(config, train=False)
        augmented = make_preprocess(config, train=False, augment=True)
        batch, key = _batch(12), jax.random.key(3)
        images, targets = augmented(batch, key)
        original, expected = clean(batch, key)
        chex.assert_trees_all_equal(targets, expected)  # mixup is off
        unchanged = (images == original).all(axis=(1, 2, 3))
        flipped = (images == original[:, :, ::-1]).all(axis=(1, 2, 3))
        assert (unchanged | flipped).all()
        assert 0 < flipped.sum() < 12
        reversed_batch = {name: values[::-1] for name, values in batch.items()}
        chex.assert_trees_all_equal(augmented(reversed_batch, key)[0], images[::-1])


def test_compute_in_bfloat16_keeps_float32_parameters_and_statistics() -> None:
    config = _config(model__dtype="float32", model__compute_dtype="bfloat16", model__name="resnet50")
    config.model.kernel_size, config.model.stage_sizes, config.model.width = 5, (1,), 8
    model = models.create(config.model)
    optimizer = make_optimizer(config, optax.constant_schedule(0.05))
    variables = models.initialize(model, jax.random.key(1), (1, 32, 32, 3))
    state = TrainState.create(variables, optimizer, seed=0)
    step = make_train_step(
        model, make_loss(config.train), optimizer, preprocess=make_preprocess(config, train=True)
    )
    batch = _batch(8)
    batch["image"] = np.kron(batch["image"], np.ones((1, 2, 2, 1), np.uint8))
    state, metrics = jax.jit(step)(state, batch)
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.batch_stats))} == {
        jnp.dtype("float32")
    }
    assert metrics["loss"].dtype == jnp.float32
    assert np.isfinite(metrics["loss"])


class _WithHead(nn.Module):
    """A classifier with an auxiliary head on the same inputs."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> Any:
        flat = x.reshape(len(x), -1)
        main, other = nn.Dense(3, name="classifier")(flat), nn.Dense(3, name="auxiliary")(flat)
        return ModelOutput(main, (other,)) if train else main


def test_auxiliary_head_is_trained_with_its_weight_and_not_evaluated() -> None:
    batch, model = _batch(6), _WithHead()
    found = {}
    for weight in (0.0, 0.3, 0.6):
        config = _config(model__dtype="float32", train__auxiliary_weight=weight)
        optimizer = optax.sgd(1.0)
        variables = models.initialize(model, jax.random.key(1), (1, 16, 16, 3))
        state = TrainState.create(variables, optimizer, seed=0)
        arguments = (model, make_loss(config.train, auxiliary_weight=9.0))
        clean = make_preprocess(config, train=False)
        step = make_train_step(*arguments, optimizer, preprocess=clean)
        after, metrics = jax.jit(step)(state, batch)
        update = jax.tree.map(jnp.subtract, after.params, state.params)
        evaluated = jax.jit(make_eval_step(*arguments, preprocess=clean))(state, batch)
        found[weight] = update, metrics, evaluated
    (without, main_metrics, evaluated), (update, metrics, _), (twice, _, _) = found.values()
    assert metrics["correct"] == evaluated["correct"]
    np.testing.assert_allclose(main_metrics["loss"], evaluated["loss"], rtol=1e-6)
    assert float(metrics["loss"]) > float(main_metrics["loss"])
    chex.assert_trees_all_close(update["classifier"], without["classifier"], rtol=1e-5)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(without["auxiliary"]))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, update["auxiliary"])
    chex.assert_trees_all_close(twice["auxiliary"], doubled, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("ema", [True, False])
def test_evaluation_uses_ema_weights_if_requested(ema: bool) -> None:
    config = _config(train__ema_decay=0.9, model__dtype="float32")
    state, _, _ = _setup(config)
    zeros = jax.tree.map(jnp.zeros_like, state.params)
    state = dataclasses.replace(state, ema=zeros)
    preprocess = make_preprocess(config, train=False)
    model = models.create(config.model)
    sums = make_eval_step(model, make_loss(config.train), preprocess=preprocess, ema=ema)(state, _batch(8))
    is_uniform = np.isclose(sums["loss"] / 8, np.log(3), atol=1e-6)
    assert bool(is_uniform) is ema
    assert state.variables(ema=ema)["params"] is (zeros if ema else state.params)


class _WithBatchNorm(nn.Module):
    """A batch norm and a classifier."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = BatchNorm(name="norm")(x, train=train)
        return nn.Dense(3, name="classifier")(x.reshape(len(x), -1))


def test_batch_statistics_are_updated_for_each_microbatch() -> None:
    config, model, batch = _config(model__dtype="float32"), _WithBatchNorm(), _batch(8)
    optimizer = make_optimizer(config, optax.constant_schedule(0.05))
    variables = model.init(jax.random.key(1), jnp.zeros((1, 16, 16, 3)))
    preprocess = make_preprocess(config, train=True)
    step = make_train_step(
        model, make_loss(config.train), optimizer, preprocess=preprocess, grad_accum_steps=2
    )
    state, _ = step(TrainState.create(variables, optimizer, seed=0), batch)
    inputs, _ = preprocess(batch, jax.random.key(0))
    for part in (inputs[:4], inputs[4:]):
        _, changed = model.apply(variables, part, train=True, mutable=["batch_stats"])
        variables = {**variables, **changed}
    chex.assert_trees_all_close(state.batch_stats, variables["batch_stats"], rtol=1e-6)
