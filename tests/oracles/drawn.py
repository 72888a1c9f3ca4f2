"""Random variables of a network without compiling its initialisation."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def variables(model: nn.Module, shape: tuple[int, ...], seed: int = 1) -> dict[str, Any]:
    """{"params", "batch_stats"}: kernels of variance 2 / fan_in, all else near its usual beginning.

    Scales and variances are around 1, biases and means around 0; none is exactly that. `shape` is of the
    input, [B, ...].
    """
    dtype = getattr(model, "dtype", jnp.float32)
    init = functools.partial(model.init, jax.random.key(0), train=False)
    structure = jax.eval_shape(init, jax.ShapeDtypeStruct(shape, dtype))
    generator = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        noise = generator.standard_normal(leaf.shape)
        name = path[-1].key
        if name == "kernel":
            values = noise * (2 / (leaf.size / leaf.shape[-1])) ** 0.5
        elif name == "var":
            values = generator.uniform(0.5, 1.5, leaf.shape)
        else:
            values = 0.1 * noise + (name == "scale")
        return values.astype(leaf.dtype)

    drawn = jax.tree_util.tree_map_with_path(draw, dict(structure))
    return {"params": drawn["params"], "batch_stats": drawn.get("batch_stats", {})}
