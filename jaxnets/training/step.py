"""The training step and the evaluation step: pure functions of state and batch."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxnets.data.sources.base import FEATURES
from jaxnets.models.base import ModelOutput
from jaxnets.training.backbone import BackboneHeadPartition
from jaxnets.training.forward import Forward, frozen_backbone_forward, full_forward
from jaxnets.training.loss import Loss
from jaxnets.training.preprocess import Batch, Preprocess, has_classes
from jaxnets.training.state import TrainState, Tree

Metrics = dict[str, jax.Array]
"""Sums and counts: they add up exactly over batches, devices and processes."""

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvalStep = Callable[[TrainState, Batch], Metrics]
Examples = tuple[jax.Array, jax.Array, jax.Array]
"""Inputs, targets and weights of a batch or a microbatch."""
GradFn = Callable[[Tree, Tree, Examples, jax.Array], tuple[Tree, tuple[Tree, Metrics]]]
"""(trainable, batch statistics, examples, dropout key) -> (gradient, (batch statistics, metrics))."""

AUGMENTATION_STREAM, DROPOUT_STREAM, EVALUATION_STREAM = 0, 1, 2
PROBABILITIES, PREDICTIONS = "probabilities", "predictions"


def make_train_step(
    model: nn.Module,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    preprocess: Preprocess,
    grad_accum_steps: int = 1,
    ema_decay: float | None = None,
    axis_name: str | None = None,
    partition: BackboneHeadPartition | None = None,
    head_only_steps: int | None = None,
) -> TrainStep:
    """Returns the step (state, batch) -> (state, metrics), to be mapped over `axis_name` if that is given.

    Losses, gradients and weight sums are summed over microbatches and devices; the gradient is divided by
    the weight sum once, or not at all if the loss is a sum. Microbatches are computed one after another, and
    batch statistics are updated after each. With `partition` (the optimizer must be built with it too) only
    the head is trained, and the backbone runs in eval mode: during the first `head_only_steps` steps, or
    always if that is None. Metrics: loss (including auxiliary heads), weight_sum (not for a loss that is a
    sum), correct (for classes; main outputs), examples, gradient_norm, steps (1).
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.wrap_key_data(state.key)
        inputs, targets = preprocess(batch, jax.random.fold_in(key, AUGMENTATION_STREAM))
        dropout_key = jax.random.fold_in(jax.random.fold_in(key, DROPOUT_STREAM), state.step)
        if axis_name is not None:
            dropout_key = jax.random.fold_in(dropout_key, lax.axis_index(axis_name))
        examples = (inputs, targets, batch["weight"].astype(targets.dtype))

        def update(forward: Forward, trainable: Tree, frozen: Tree) -> tuple[TrainState, Metrics]:
            loss_fn = functools.partial(_loss_fn, loss, forward, frozen, has_classes(batch))
            gradient, batch_stats, metrics = accumulate_gradients(
                jax.grad(loss_fn, has_aux=True),
                trainable,
                state.batch_stats,
                examples,
                dropout_key,
                grad_accum_steps,
            )
            if axis_name is not None:
                gradient, metrics = lax.psum((gradient, metrics), axis_name)
                batch_stats = lax.pmean(batch_stats, axis_name)
            if "weight_sum" in metrics:
                gradient = jax.tree.map(lambda g: g / metrics["weight_sum"], gradient)
            updates, opt_state = optimizer.update(gradient, state.opt_state, trainable)
            updated: Any = optax.apply_updates(trainable, updates)
            params = {**frozen, **updated}
            metrics["gradient_norm"] = optax.tree.norm(gradient)
            metrics["steps"] = jnp.ones((), jnp.int32)
            new_state = dataclasses.replace(
                state,
                step=state.step + 1,
                params=params,
                batch_stats=batch_stats,
                opt_state=opt_state,
                ema=_update_ema(state, params, ema_decay),
            )
            return new_state, metrics

        update_all = functools.partial(update, full_forward(model), state.params, {})
        if partition is None:
            return update_all()
        head, backbone = partition.split(state.params)
        forward = frozen_backbone_forward(model, on_features=FEATURES in batch)
        update_head = functools.partial(update, forward, head, backbone)
        if head_only_steps is None:
            return update_head()
        return lax.cond(state.step < head_only_steps, update_head, update_all)

    return train_step


def accumulate_gradients(
    grad_fn: GradFn,
    trainable: Tree,
    batch_stats: Tree,
    examples: Examples,
    dropout_key: jax.Array,
    grad_accum_steps: int,
) -> tuple[Tree, Tree, Metrics]:
    """Returns the summed gradient, the last batch statistics and the summed metrics of all microbatches."""
    if grad_accum_steps == 1:
        gradient, (batch_stats, metrics) = grad_fn(trainable, batch_stats, examples, dropout_key)
        return gradient, batch_stats, metrics

    def scan_fn(batch_stats: Tree, x: tuple[Any, Examples]) -> tuple[Tree, tuple[Tree, Metrics]]:
        number, microbatch = x
        key = jax.random.fold_in(dropout_key, number)
        gradient, (batch_stats, metrics) = grad_fn(trainable, batch_stats, microbatch, key)
        return batch_stats, (gradient, metrics)

    microbatches = jax.tree.map(lambda x: x.reshape(grad_accum_steps, -1, *x.shape[1:]), examples)
    xs = (jnp.arange(grad_accum_steps), microbatches)
    batch_stats, stacked = lax.scan(scan_fn, batch_stats, xs)
    gradient, metrics = jax.tree.map(lambda x: x.sum(axis=0), stacked)
    return gradient, batch_stats, metrics


def _loss_fn(
    loss: Loss,
    forward: Forward,
    frozen: Tree,
    classes: bool,
    trainable: Tree,
    batch_stats: Tree,
    examples: Examples,
    dropout_key: jax.Array,
) -> tuple[jax.Array, tuple[Tree, Metrics]]:
    """Returns the summed loss, the new batch statistics and the metrics of a microbatch."""
    inputs, targets, weight = examples
    variables = {"params": {**frozen, **trainable}, "batch_stats": batch_stats}
    outputs, batch_stats = forward(variables, inputs, dropout_key)
    terms = loss(outputs, targets, weight)
    main = outputs.main if isinstance(outputs, ModelOutput) else outputs
    metrics = {**terms.metrics(), **_classification_counts(main, targets, weight, classes)}
    return terms.total, (batch_stats, metrics)


def _update_ema(state: TrainState, params: Tree, decay: float | None) -> Tree:
    """Uses decay min(decay, (1 + t) / (10 + t)), so that early averages are not the initial weights."""
    if decay is None or state.ema is None:
        return state.ema
    step = state.step.astype(jnp.float32)
    rate = 1 - jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: old + rate.astype(old.dtype) * (new - old), state.ema, params)


def make_eval_step(
    model: nn.Module,
    loss: Loss,
    *,
    preprocess: Preprocess,
    ema: bool = True,
    dropout: bool = False,
    axis_name: str | None = None,
    with_probabilities: bool = False,
) -> EvalStep:
    """Returns the step (state, batch) -> metrics, weighted sums over the batch (weight 0 for padding).

    Sums: loss, weight_sum (not for a loss that is a sum), examples and, for classes, correct. For classes
    the result also holds, per example of the global batch (padding included), on every device: PREDICTIONS
    int32[B, 2], label and prediction, and with `with_probabilities` PROBABILITIES [B, K]. `dropout` runs the
    network in training mode, for networks without batch norm; its mask is drawn from the run's key and the
    first example's index.
    """

    def eval_step(state: TrainState, batch: Batch) -> Metrics:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), EVALUATION_STREAM)
        inputs, targets = preprocess(batch, key)
        drawn = jax.random.fold_in(jax.random.fold_in(key, DROPOUT_STREAM), batch["index"][0])
        outputs: Any = model.apply(
            state.variables(ema=ema),
            inputs,
            train=dropout,
            rngs={"dropout": drawn} if dropout else None,
            method="head" if FEATURES in batch else None,
        )
        weight = batch["weight"].astype(targets.dtype)
        terms, classes = loss(outputs, targets, weight), has_classes(batch)
        metrics = {**terms.metrics(), **_classification_counts(outputs, targets, weight, classes)}
        if axis_name is not None:
            metrics = lax.psum(metrics, axis_name)
        if not classes:
            return metrics

        def gather(values: jax.Array) -> jax.Array:
            return values if axis_name is None else lax.all_gather(values, axis_name, tiled=True)

        predictions = jnp.stack([jnp.argmax(each, axis=-1) for each in (targets, outputs)], axis=-1)
        metrics[PREDICTIONS] = gather(predictions.astype(jnp.int32))
        if with_probabilities:
            metrics[PROBABILITIES] = gather(jax.nn.softmax(outputs, axis=-1))
        return metrics

    return eval_step


def _classification_counts(
    outputs: jax.Array, targets: jax.Array, weight: jax.Array, classes: bool
) -> Metrics:
    if not classes:
        return {"examples": jnp.sum(weight)}
    correct = jnp.argmax(outputs, axis=-1) == jnp.argmax(targets, axis=-1)
    return {"correct": jnp.sum(correct * weight), "examples": jnp.sum(weight)}


def add_metrics(total: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """Adds fetched metrics to `total` (None for zero) in double precision."""
    return {name: (total[name] if total else 0) + _as_double(value) for name, value in more.items()}


def _as_double(value: Any) -> Any:
    if isinstance(value, int | float):
        return float(value)
    array = jax.device_get(value).astype("float64")
    return float(array) if array.ndim == 0 else array
