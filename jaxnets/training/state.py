"""The state of training."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

Tree = Any


@flax.struct.dataclass
class TrainState:
    """A pytree without static fields, as checkpoints store it.

    `key` is the raw data of the run's random key (uint32[2]). `ema` is None without a moving average of the
    weights; `batch_stats` is {} without batch norm.
    """

    step: jax.Array  # shape=(), dtype=int32; updates taken so far
    params: Tree
    batch_stats: Tree
    opt_state: optax.OptState
    ema: Tree
    key: jax.Array

    @classmethod
    def create(
        cls,
        variables: dict[str, Tree],
        optimizer: optax.GradientTransformation,
        *,
        seed: int,
        with_ema: bool = False,
    ) -> "TrainState":
        """Returns the state before the first step."""
        params = variables["params"]
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables["batch_stats"],
            opt_state=optimizer.init(params),
            # A copy: a buffer cannot be donated twice.
            ema=jax.tree.map(jnp.copy, params) if with_ema else None,
            key=jax.random.key_data(jax.random.key(seed)),
        )

    def variables(self, *, ema: bool = False) -> dict[str, Tree]:
        """Returns the variables for `model.apply`; with `ema` the averaged weights, if there are any.

        Batch statistics are always the latest: they are moving averages themselves.
        """
        params = self.ema if ema and self.ema is not None else self.params
        return {"params": params, "batch_stats": self.batch_stats}
