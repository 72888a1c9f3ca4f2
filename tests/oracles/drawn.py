"""Random variables of a network, without compiling its initialization."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def variables(model: nn.Module, shape: tuple[int, ...], seed: int = 1) -> dict[str, Any]:
    """Returns {"params", "batch_stats"} for inputs of `shape` [B, ...].

    Kernels have variance 2 / fan_in, scales and variances are random around 1, biases and means around 0.
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
