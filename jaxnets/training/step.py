"""The state of training, the training step and the evaluation step: pure functions of state and batch."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.flatten_util
import jax.numpy as jnp
import optax
from jax import lax

from jaxnets import models
from jaxnets.data.batch import FEATURES, Batch
from jaxnets.models.base import ModelOutput
from jaxnets.ops.cpu_kernels import Implementation, on_cpu
from jaxnets.ops.layers import SAVED
from jaxnets.ops.normalization import norm
from jaxnets.training.loss import Loss, LossTerms
from jaxnets.training.preprocess import Preprocess

AUGMENTATION_STREAM, DROPOUT_STREAM, EVALUATION_STREAM = 0, 1, 2
PROBABILITIES, PREDICTIONS = "probabilities", "predictions"
Tree = Any


@flax.struct.dataclass
class TrainState:
    """A pytree without static fields, as checkpoints store it."""

    step: jax.Array  # int32[]; updates taken so far
    params: Tree
    batch_stats: Tree  # {} without batch norm
    opt_state: optax.OptState
    ema: Tree  # None without a moving average of the weights
    key: jax.Array  # uint32[2]; the raw data of the run's random key

    @classmethod
    def create(
        cls,
        variables: dict[str, Tree],
        optimizer: optax.GradientTransformation,
        *,
        seed: int,
        with_ema: bool = False,
    ) -> "TrainState":
        """Returns the state before the first step.

        Args:
            variables: "params" and "batch_stats", as `jaxnets.models.initialize` returns them.
            optimizer: initialized with the parameters.
            seed: of dropout and augmentation.
            with_ema: store a moving average of the parameters.
        """
        params = variables["params"]
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables["batch_stats"],
            opt_state=models.init_eqn_by_eqn(optimizer.init, params),
            ema=jax.tree.map(jnp.copy, params) if with_ema else None,  # a buffer cannot be donated twice
            key=jax.random.key_data(jax.random.key(seed)),
        )

    def variables(self, *, ema: bool = False) -> dict[str, Tree]:
        """Returns the variables for `model.apply`; with `ema` the averaged weights, if there are any."""
        params = self.ema if ema and self.ema is not None else self.params
        return {"params": params, "batch_stats": self.batch_stats}


Metrics = dict[str, jax.Array]  # sums and counts: they add up exactly over batches, devices and processes
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
Examples = tuple[jax.Array, jax.Array, jax.Array]  # inputs, targets and weights
Forward = Callable[[dict[str, Tree], jax.Array, jax.Array], tuple[Any, Tree]]
"""(variables, inputs, dropout key) -> (outputs, batch statistics)."""


def make_train_step(
    model: nn.Module,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    preprocess: Preprocess,
    grad_accum_steps: int = 1,
    ema_decay: float | None = None,
    remat: bool = False,
    axis_name: str | None = None,
    forward: Forward | None = None,
    partition: Callable[[Tree], tuple[Tree, Tree]] = lambda params: (params, {}),
) -> TrainStep:
    """Makes the training step.

    Losses, gradients and weight sums are summed over microbatches and devices; the gradient is divided by
    the weight sum once, or not at all if the loss is a sum.

    Args:
        model: a network, such as `jaxnets.models.create` makes.
        loss: (outputs, targets, weight) -> LossTerms, see `make_loss`.
        optimizer: of the trainable parameters.
        preprocess: (batch, key) -> (inputs, targets), see `make_preprocess`.
        grad_accum_steps: microbatches of a batch; batch statistics are updated after each.
        ema_decay: of the moving average of the parameters; None: no average.
        remat: store the outputs of convolutions only, and compute the other activations again in the backward
            pass. On CPUs it saves memory if compiled with `jaxnets.runtime.xla.MEMORY_OPTIONS`.
        axis_name: the axis of the devices that the step is mapped over.
        forward: (variables, inputs, key) -> (outputs, batch_stats); by default the model in training mode.
        partition: parameters -> (trainable, frozen); by default all are trained.

    Returns:
        A pure function (state, batch) -> (state, metrics). Metrics are sums: loss (with auxiliary heads),
        weight_sum (not for a loss that is a sum), correct (for classes), examples, gradient_norm, steps.
    """
    forward = forward or functools.partial(_forward, model)
    if remat:
        forward = jax.checkpoint(forward, policy=jax.checkpoint_policies.save_only_these_names(SAVED))
    implementation: Implementation = getattr(model, "implementation", "auto")

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.wrap_key_data(state.key)
        inputs, targets = preprocess(batch, jax.random.fold_in(key, AUGMENTATION_STREAM))
        dropout_key = jax.random.fold_in(jax.random.fold_in(key, DROPOUT_STREAM), state.step)
        if axis_name is not None:
            dropout_key = jax.random.fold_in(dropout_key, lax.axis_index(axis_name))
        examples = (inputs, targets, batch["weight"].astype(targets.dtype))

        trainable, frozen = partition(state.params)
        grad_fn = functools.partial(
            _gradient, loss, forward, frozen, batch["label"].ndim == 1, remat, trainable
        )
        gradient, batch_stats, metrics = _accumulate_gradients(
            grad_fn, state.batch_stats, examples, dropout_key, grad_accum_steps
        )
        if axis_name is not None:
            summed = all_reduce_sum((gradient, metrics, batch_stats), axis_name)
            gradient, metrics, batch_stats = summed
            batch_stats = jax.tree.map(lambda x: x / lax.axis_size(axis_name), batch_stats)
        if "weight_sum" in metrics:
            gradient = jax.tree.map(lambda g: g / metrics["weight_sum"], gradient)
        updates, opt_state = optimizer.update(gradient, state.opt_state, trainable)
        updated: Any = optax.apply_updates(trainable, updates)
        params = {**frozen, **updated}
        metrics["gradient_norm"] = norm(gradient, implementation=implementation)
        metrics["steps"] = jnp.ones((), jnp.int32)
        step, ema = state.step + 1, _update_ema(state, params, ema_decay)
        return TrainState(step, params, batch_stats, opt_state, ema, state.key), metrics

    return train_step


def all_reduce_sum(tree: Any, axis_name: str) -> Any:
    """Returns the sums of all arrays over the devices of an axis, with one all-reduce for each dtype.

    One for each array costs a round trip each; XLA merges them only up to a size and number.
    """
    leaves, treedef = jax.tree.flatten(tree)
    summed = list(leaves)
    for dtype in sorted({leaf.dtype for leaf in leaves}, key=str):
        indices = [index for index, leaf in enumerate(leaves) if leaf.dtype == dtype]
        vector, unravel = jax.flatten_util.ravel_pytree([leaves[index] for index in indices])
        for index, leaf in zip(indices, unravel(lax.psum(vector, axis_name)), strict=True):
            summed[index] = leaf
    return treedef.unflatten(summed)


def _forward(
    model: nn.Module, variables: dict[str, Tree], inputs: jax.Array, key: jax.Array
) -> tuple[Any, Tree]:
    """The network in training mode: batch norm over the batch, dropout, auxiliary heads."""
    outputs, updates = model.apply(
        variables, inputs, train=True, mutable=["batch_stats"], rngs={"dropout": key}
    )
    return outputs, updates.get("batch_stats", {})


def _accumulate_gradients(
    grad_fn: Callable[..., Any], batch_stats: Tree, examples: Examples, dropout_key: jax.Array, count: int
) -> tuple[Tree, Tree, Metrics]:
    """Returns the summed gradient and metrics of `count` microbatches, and the last batch statistics."""
    if count == 1:
        gradient, (batch_stats, metrics) = grad_fn(batch_stats, examples, dropout_key)
        return gradient, batch_stats, metrics

    def scan_fn(batch_stats: Tree, x: tuple[Any, Examples]) -> tuple[Tree, tuple[Tree, Metrics]]:
        number, microbatch = x
        key = jax.random.fold_in(dropout_key, number)
        gradient, (batch_stats, metrics) = grad_fn(batch_stats, microbatch, key)
        return batch_stats, (gradient, metrics)

    microbatches = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), examples)
    batch_stats, stacked = lax.scan(scan_fn, batch_stats, (jnp.arange(count), microbatches))
    gradient, metrics = jax.tree.map(lambda x: x.sum(axis=0), stacked)
    return gradient, batch_stats, metrics


def _gradient(
    loss: Loss,
    forward: Forward,
    frozen: Tree,
    classes: bool,
    remat: bool,
    trainable: Tree,
    batch_stats: Tree,
    examples: Examples,
    dropout_key: jax.Array,
) -> tuple[Tree, tuple[Tree, Metrics]]:
    """Returns the gradient of the summed loss, the new batch statistics and the metrics of a microbatch."""
    inputs, targets, weight = examples

    def apply(trainable: Tree) -> tuple[Any, Tree]:
        variables = {"params": {**frozen, **trainable}, "batch_stats": batch_stats}
        return forward(variables, inputs, dropout_key)

    def total(outputs: Any) -> tuple[jax.Array, Metrics]:
        terms = loss(outputs, targets, weight)
        main = outputs.main if isinstance(outputs, ModelOutput) else outputs
        return terms.total, _sums(terms, main, targets, weight, classes)

    outputs, backward, batch_stats = jax.vjp(apply, trainable, has_aux=True)
    gradient, metrics = jax.grad(total, has_aux=True)(outputs)
    if remat and on_cpu():
        backward = _delay(backward, gradient, arguments=(trainable, frozen, batch_stats, inputs))
    return backward(gradient)[0], (batch_stats, metrics)


def _delay(backward: Callable[[Tree], Tree], gradient: Tree, arguments: Tree) -> Callable[[Tree], Tree]:
    """Returns `backward` such that XLA cannot use its stored activations before `gradient` is known.

    On CPUs XLA removes the optimization barrier of `jax.checkpoint`, then merges what is computed twice. So
    the activations pass through a loop that never runs, which XLA does not know: no sum is above infinity.
    """
    known = {id(array) for array in jax.tree.leaves(arguments)}
    stored, structure = jax.tree.flatten(backward)
    activations = {
        index: array
        for index, array in enumerate(stored)
        if id(array) not in known and jnp.issubdtype(array.dtype, jnp.floating)
    }
    total: Any = sum(jnp.sum(array) for array in jax.tree.leaves(gradient))  # of all heads

    def negate(carry: tuple[jax.Array, Tree]) -> tuple[jax.Array, Tree]:
        return jnp.zeros_like(carry[0]), jax.tree.map(jnp.negative, carry[1])

    _, delayed = lax.while_loop(lambda carry: carry[0], negate, (total > jnp.inf, activations))
    return structure.unflatten([delayed.get(index, array) for index, array in enumerate(stored)])


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
) -> Callable[[TrainState, Batch], Metrics]:
    """Makes the evaluation step.

    Args:
        model: a network.
        loss: as for `make_train_step`.
        preprocess: as for `make_train_step`.
        ema: evaluate the moving average of the parameters, if the state has one.
        dropout: training mode, for a network without batch norm; the mask depends on the first index.
        axis_name: the axis of the devices that the step is mapped over.

    Returns:
        A pure function (state, batch) -> metrics. Sums over the batch, weighted (0 for padding): loss,
        weight_sum (not for a loss that is a sum), examples and, for classes, correct. For classes also, per
        example of all devices, "predictions" int32[B, 2] (label, prediction) and "probabilities" [B, K].
    """

    def eval_step(state: TrainState, batch: Batch) -> Metrics:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), EVALUATION_STREAM)
        inputs, targets = preprocess(batch, key)
        drawn = jax.random.fold_in(jax.random.fold_in(key, DROPOUT_STREAM), batch["index"][0])
        method, rngs = "head" if FEATURES in batch else None, {"dropout": drawn} if dropout else None
        outputs: Any = model.apply(state.variables(ema=ema), inputs, train=dropout, rngs=rngs, method=method)
        weight, classes = batch["weight"].astype(targets.dtype), batch["label"].ndim == 1
        metrics = _sums(loss(outputs, targets, weight), outputs, targets, weight, classes)
        if axis_name is not None:
            metrics = all_reduce_sum(metrics, axis_name)
        if not classes:
            return metrics

        predictions = jnp.stack([jnp.argmax(each, axis=-1) for each in (targets, outputs)], axis=-1)
        examples = {
            PREDICTIONS: predictions.astype(jnp.int32),
            PROBABILITIES: jax.nn.softmax(outputs, axis=-1),
        }
        return metrics | (examples if axis_name is None else lax.all_gather(examples, axis_name, tiled=True))

    return eval_step


def _sums(
    terms: LossTerms, outputs: jax.Array, targets: jax.Array, weight: jax.Array, classes: bool
) -> Metrics:
    metrics = {"loss": terms.total}
    if terms.weight_sum is not None:
        metrics["weight_sum"] = terms.weight_sum
    if classes:
        correct = jnp.argmax(outputs, axis=-1) == jnp.argmax(targets, axis=-1)
        metrics["correct"] = jnp.sum(correct.astype(weight.dtype) * weight)
    return {**metrics, "examples": jnp.sum(weight)}


def add_metrics(total: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """Adds fetched metrics, numbers or scalar arrays, to `total` (None for zero) in double precision."""
    return {name: (total[name] if total else 0) + float(value) for name, value in more.items()}
