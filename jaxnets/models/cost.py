"""What a network costs: the multiply-adds of one image."""

import math
from typing import Any

import flax.linen as nn
import jax
from flax import traverse_util


def multiply_adds(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Products of weights and inputs in one forward pass of an input of `shape`, without a batch axis.

    Of convolutions and dense layers, each called once; a FLOP count is twice as many. Nothing is computed.
    """

    def traced(x: jax.Array) -> tuple[Any, Any]:
        variables = model.init(jax.random.key(0), x)
        _, seen = model.apply(
            variables, x, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
        return variables["params"], seen["intermediates"]

    dtype = getattr(model, "dtype", "float32")
    params, seen = jax.eval_shape(traced, jax.ShapeDtypeStruct((1, *shape), dtype))
    outputs = traverse_util.flatten_dict(seen)
    total = 0
    for path, leaf in traverse_util.flatten_dict(params).items():
        if path[-1] == "kernel":
            (output,) = outputs[(*path[:-1], "__call__")]
            total += leaf.size * math.prod(output.shape[1:-1])
    return total
