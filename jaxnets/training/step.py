"""One training step and one evaluation step: pure functions of state and batch."""

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
from jaxnets.models.outputs import ModelOutput
from jaxnets.training.backbone import BackboneHeadPartition
from jaxnets.training.forward import Forward, frozen_backbone_forward, full_forward
from jaxnets.training.loss import Loss
from jaxnets.training.preprocess import Batch, Preprocess, has_classes
from jaxnets.training.state import TrainState, Tree

Metrics = dict[str, jax.Array]
"""Sums and counts, which add up exactly over batches, devices and processes."""

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvalStep = Callable[[TrainState, Batch], Metrics]
Part = tuple[jax.Array, jax.Array, jax.Array]
"""Inputs, targets and weights of one part of a batch."""
GradAndMetrics = Callable[[Tree, Tree, Tree, Part, jax.Array], tuple[Tree, Tree, Metrics]]
"""(trained, other parameters, batch statistics, part, key) -> (gradient, batch statistics, sums)."""

AUGMENTATION_STREAM, DROPOUT_STREAM, EVALUATION_STREAM = 0, 1, 2
PROBABILITIES, ANSWERS = "probabilities", "answers"


def make_train_step(
    model: nn.Module,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    preprocess: Preprocess,
    grad_accum_steps: int = 1,
    ema_decay: float | None = None,
    axis_name: str | None = None,
    network_parts: BackboneHeadPartition | None = None,
    head_only_steps: int | None = None,
) -> TrainStep:
    """A step (state, batch) -> (state, metrics), mapped over `axis_name` where there is one.

    Gradients, losses and their normaliser are summed over the parts of the batch and over the axis,
    and divided once, or not at all where the loss is a sum. With `grad_accum_steps` > 1 the batch is computed
    in that many parts, one after another, batch statistics following each part. The moving average's
    decay is min(ema_decay, (1 + t) / (10 + t)), so that its first values are not the initial weights.
    With `network_parts`, which the optimizer must have been made of, the head alone is trained, the body
    being as in evaluation: in the first `head_only_steps` steps, or in all where that is None.
    Metrics: loss (auxiliary heads' terms included) and its normalizer (none where it is a sum), correct
    (where there are classes; of the main outputs), examples, gradient_norm and steps (1).
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.wrap_key_data(state.key)
        inputs, targets = preprocess(batch, jax.random.fold_in(key, AUGMENTATION_STREAM))
        dropout_key = jax.random.fold_in(jax.random.fold_in(key, DROPOUT_STREAM), state.step)
        if axis_name is not None:
            dropout_key = jax.random.fold_in(dropout_key, lax.axis_index(axis_name))
        parts = (inputs, targets, batch["weight"].astype(targets.dtype))

        def advance(forward: Forward, trained: Tree, others: Tree) -> tuple[TrainState, Metrics]:
            sums_over_parts = _make_grad_fn(loss, forward, grad_accum_steps, has_classes(batch))
            gradient, batch_stats, sums = sums_over_parts(
                trained, others, state.batch_stats, parts, dropout_key
            )
            if axis_name is not None:
                gradient, sums = lax.psum((gradient, sums), axis_name)
                batch_stats = lax.pmean(batch_stats, axis_name)
            if "weight_sum" in sums:
                gradient = jax.tree.map(lambda g: g / sums["weight_sum"], gradient)
            updates, opt_state = optimizer.update(gradient, state.opt_state, trained)
            moved: Any = optax.apply_updates(trained, updates)
            params = {**others, **moved}
            metrics = {
                **sums,
                "gradient_norm": optax.tree.norm(gradient),
                "steps": jnp.ones((), jnp.int32),
            }
            new_state = dataclasses.replace(
                state,
                step=state.step + 1,
                params=params,
                batch_stats=batch_stats,
                opt_state=opt_state,
                ema=_update_ema(state, params, ema_decay),
            )
            return new_state, metrics

        def train_all() -> tuple[TrainState, Metrics]:
            return advance(full_forward(model), state.params, {})

        if network_parts is None:
            return train_all()
        head, body = network_parts.split(state.params)
        train_head = functools.partial(
            advance, frozen_backbone_forward(model, on_features=FEATURES in batch), head, body
        )
        if head_only_steps is None:
            return train_head()
        return lax.cond(state.step < head_only_steps, train_head, train_all)

    return train_step


def _make_grad_fn(
    loss: Loss, forward: Forward, grad_accum_steps: int, classes: bool
) -> GradAndMetrics:
    """The gradient of the summed loss by the trained parameters, over the parts of a batch."""

    def loss_of_part(
        trained: Tree, others: Tree, batch_stats: Tree, part: Part, key: jax.Array
    ) -> tuple[jax.Array, tuple[Tree, Metrics]]:
        inputs, targets, weight = part
        variables = {"params": {**others, **trained}, "batch_stats": batch_stats}
        outputs, batch_stats = forward(variables, inputs, key)
        terms = loss(outputs, targets, weight)
        main = outputs.main if isinstance(outputs, ModelOutput) else outputs
        sums = {**terms.sums(), **_counts(main, targets, weight, classes)}
        return terms.total, (batch_stats, sums)

    gradient_of_part = jax.grad(loss_of_part, has_aux=True)

    def sums_over_parts(
        trained: Tree, others: Tree, batch_stats: Tree, parts: Part, key: jax.Array
    ) -> tuple[Tree, Tree, Metrics]:
        if grad_accum_steps == 1:
            gradient, (batch_stats, sums) = gradient_of_part(
                trained, others, batch_stats, parts, key
            )
            return gradient, batch_stats, sums

        def add(batch_stats: Tree, numbered: tuple[Any, Part]) -> tuple[Tree, tuple[Tree, Metrics]]:
            number, part = numbered
            part_key = jax.random.fold_in(key, number)
            gradient, (batch_stats, sums) = gradient_of_part(
                trained, others, batch_stats, part, part_key
            )
            return batch_stats, (gradient, sums)

        split = jax.tree.map(lambda x: x.reshape(grad_accum_steps, -1, *x.shape[1:]), parts)
        batch_stats, stacked = lax.scan(add, batch_stats, (jnp.arange(grad_accum_steps), split))
        gradient, sums = jax.tree.map(lambda x: x.sum(axis=0), stacked)
        return gradient, batch_stats, sums

    return sums_over_parts


def _update_ema(state: TrainState, params: Tree, decay: float | None) -> Tree:
    if decay is None or state.ema is None:
        return state.ema
    step = state.step.astype(jnp.float32)
    share = 1 - jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(
        lambda old, new: old + share.astype(old.dtype) * (new - old), state.ema, params
    )


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
    """A step (state, batch) -> sums over the batch, each example counted with its weight (0 for padding).

    Sums: loss, normalizer (none where the loss is a sum), examples; and where there are classes, correct.
    Where there are classes it also gives what is not a sum, of the whole batch in its order on every device,
    padding included: ANSWERS int32[B, 2], label and prediction (a confusion matrix [K, K] of each batch
    would be far larger than the batch where there are thousands of classes), and `with_probabilities`
    PROBABILITIES [B, K]. With `dropout` the network is in its training mode, which is for networks without
    batch statistics; what is dropped follows from the run's key and the batch's first example.
    """

    def eval_step(state: TrainState, batch: Batch) -> Metrics:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), EVALUATION_STREAM)
        inputs, targets = preprocess(batch, key)
        drawn = jax.random.fold_in(jax.random.fold_in(key, DROPOUT_STREAM), batch["index"][0])
        rngs = {"dropout": drawn} if dropout else None
        method = "head" if FEATURES in batch else None
        outputs: Any = model.apply(
            state.variables(ema=ema), inputs, train=dropout, rngs=rngs, method=method
        )
        weight = batch["weight"].astype(targets.dtype)
        terms, classes = loss(outputs, targets, weight), has_classes(batch)
        sums = {**terms.sums(), **_counts(outputs, targets, weight, classes)}
        if axis_name is not None:
            sums = lax.psum(sums, axis_name)
        if not classes:
            return sums

        def whole(values: jax.Array) -> jax.Array:
            return values if axis_name is None else lax.all_gather(values, axis_name, tiled=True)

        answers = jnp.stack([jnp.argmax(each, axis=-1) for each in (targets, outputs)], axis=-1)
        sums[ANSWERS] = whole(answers.astype(jnp.int32))
        if with_probabilities:
            sums[PROBABILITIES] = whole(jax.nn.softmax(outputs, axis=-1))
        return sums

    return eval_step


def _counts(outputs: jax.Array, targets: jax.Array, weight: jax.Array, classes: bool) -> Metrics:
    """Examples, and how many of them the network tells right, where there is a right class."""
    if not classes:
        return {"examples": jnp.sum(weight)}
    right = jnp.argmax(outputs, axis=-1) == jnp.argmax(targets, axis=-1)
    return {"correct": jnp.sum(right * weight), "examples": jnp.sum(weight)}


def add_metrics(total: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """Adds fetched sums in double precision; `total` None begins."""
    return {name: (total[name] if total else 0) + _as_double(value) for name, value in more.items()}


def _as_double(value: Any) -> Any:
    if isinstance(value, int | float):
        return float(value)
    array = jax.device_get(value).astype("float64")
    return float(array) if array.ndim == 0 else array
