"""Steps for examples that are stored on the device: they get batches of indices and gather the examples."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.data.batch import Batch

PER_STEP, LAST = "each", "last"
StoredExamples = dict[str, jax.Array]
"""All examples of a source by index: "image" [N, H, W, C] or "input" [N, D], and "label" [N, ...]."""


def with_on_device_gather(step: Callable[[Any, Batch], Any]) -> Callable[[Any, Batch, StoredExamples], Any]:
    """Returns `step` for batches of "index" [B], with the examples on the device as a third argument."""

    def gathering(state: Any, batch: Batch, examples: StoredExamples) -> Any:
        index = batch["index"]
        gathered = {name: values.at[index].get(mode="promise_in_bounds") for name, values in examples.items()}
        return step(state, {**batch, **gathered})

    return gathering


def multi_step(
    step: Callable[[Any, Batch], Any],
) -> Callable[[Any, Batch, StoredExamples], tuple[Any, dict[str, Any]]]:
    """Returns a function that runs several training steps, one per row of a batch [K, B].

    Rows of weight 0, which must come last, are skipped; the number of steps is not a constant of the program,
    so every step is computed alike. Metrics: PER_STEP, stacked [K] with zeros for skipped rows, and LAST.
    """
    one_step = jax.jit(with_on_device_gather(step), inline=True)  # which is traced once for both uses

    def stepping(state: Any, batch: Batch, examples: StoredExamples) -> tuple[Any, dict[str, Any]]:
        rows, count = batch["weight"].shape[0], jnp.sum(batch["weight"][:, 0] > 0)

        def row(number: jax.Array | int) -> Batch:
            return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, number, keepdims=False), batch)

        def body_fn(number: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            state, stacked = carry
            state, metrics = one_step(state, row(number), examples)
            return state, jax.tree.map(lambda all, one: all.at[number].set(one), stacked, metrics)

        _, shapes = jax.eval_shape(one_step, state, row(0), examples)
        zeros = jax.tree.map(lambda one: jnp.zeros((rows, *one.shape), one.dtype), shapes)
        state, stacked = lax.fori_loop(0, count, body_fn, (state, zeros))
        return state, {PER_STEP: stacked, LAST: jax.tree.map(lambda all: all[count - 1], stacked)}

    return stepping
