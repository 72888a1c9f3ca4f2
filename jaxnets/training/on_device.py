"""Examples that stay on the device: a step takes their indices and gathers inside its program."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.training.preprocess import Batch

Examples = dict[str, jax.Array]
"""Every example of a source by its place: "image" [N, H, W, C] or "input" [N, D], and "label" [N, ...]."""

Step = Callable[[Any, Batch], Any]
PER_STEP, LAST = "each", "last"


def with_on_device_gather(step: Step) -> Callable[[Any, Batch, Examples], Any]:
    """`step` for a batch of "index" [B] whose examples are looked up among the resident ones."""

    def gathering(state: Any, batch: Batch, examples: Examples) -> Any:
        return step(state, _look_up(batch, examples))

    return gathering


def multi_step(step: Step) -> Callable[[Any, Batch, Examples], tuple[Any, dict[str, Any]]]:
    """Several training steps in one call, one after another, for batches [K, B].

    Rows of weight 0, which come last, are no steps. The number of steps is no part of the program, so
    that each step is computed alike however many share a call. Metrics: "each" stacked [K], zeros where
    there was no step, and "last".
    """
    one_step = with_on_device_gather(step)

    def stepping(state: Any, batch: Batch, examples: Examples) -> tuple[Any, dict[str, Any]]:
        rows, count = batch["weight"].shape[0], jnp.sum(batch["weight"][:, 0] > 0)

        def row(number: jax.Array | int) -> Batch:
            return {
                name: lax.dynamic_index_in_dim(values, number, keepdims=False)
                for name, values in batch.items()
            }

        def take(number: jax.Array, carried: tuple[Any, Any]) -> tuple[Any, Any]:
            state, each = carried
            state, metrics = one_step(state, row(number), examples)
            return state, jax.tree.map(lambda all, one: all.at[number].set(one), each, metrics)

        _, shapes = jax.eval_shape(one_step, state, row(0), examples)
        empty = jax.tree.map(lambda one: jnp.zeros((rows, *one.shape), one.dtype), shapes)
        state, each = lax.fori_loop(0, count, take, (state, empty))
        return state, {PER_STEP: each, LAST: jax.tree.map(lambda all: all[count - 1], each)}

    return stepping


def _look_up(batch: Batch, examples: Examples) -> Batch:
    index = batch["index"]
    found = {
        name: values.at[index].get(mode="promise_in_bounds") for name, values in examples.items()
    }
    return {**batch, **found}
