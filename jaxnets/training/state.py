"""All that a training step reads and writes."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

Tree = Any


@flax.struct.dataclass
class TrainState:
    """A pytree; nothing in it is static, so that it is saved and restored whole.

    `key` is the raw data of the run's random key (uint32[2]), which checkpoints can hold; `ema` is None
    where no moving average is kept, `batch_stats` {} where the network has none.
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
        """The state before the first step."""
        params = variables["params"]
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables["batch_stats"],
            opt_state=optimizer.init(params),
            # A copy: a step's donated buffers may not be named twice.
            ema=jax.tree.map(jnp.copy, params) if with_ema else None,
            key=jax.random.key_data(jax.random.key(seed)),
        )

    def variables(self, *, ema: bool = False) -> dict[str, Tree]:
        """What `model.apply` takes; the moving average of the weights where asked for and kept.

        Batch statistics are the latest ones either way: they are moving averages themselves.
        """
        params = self.ema if ema and self.ema is not None else self.params
        return {"params": params, "batch_stats": self.batch_stats}
