"""A multilayer perceptron, report A's: dense layers, each with an activation of its own."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import ops, reported
from jaxnets.errors import ConfigError
from jaxnets.models.base import ACTIVATIONS, Entry
from jaxnets.ops.initializers import Initialization


class MLP(nn.Module):
    """Dense layers layer1 ... layerN: [B, layer_sizes[0]] -> [B, layer_sizes[-1]], in `dtype`.

    (3, 4, 4, 1) makes 41 parameters. `init_scheme="torch"` is uniform on ±1/sqrt(inputs of the layer), as
    report B has it too; "published" is the 41 weights that report A prints.
    Raises ConfigError if there is not one activation per layer, for "published" with other sizes,
    and for inputs of another length.
    """

    layer_sizes: tuple[int, ...] = (3, 4, 4, 1)
    activations: tuple[str, ...] = ("tanh", "tanh", "tanh")
    init_scheme: str = "torch"
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    def __post_init__(self) -> None:
        _check(tuple(self.layer_sizes), tuple(self.activations), self.init_scheme)
        super().__post_init__()

    def setup(self) -> None:
        types = {"dtype": self.dtype, "compute_dtype": self.compute_dtype}
        self.layers = [
            ops.Dense(size, _initialization(self.init_scheme, number), name=f"layer{number}", **types)
            for number, size in enumerate(self.layer_sizes[1:], 1)
        ]

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        del train
        if x.shape[-1] != self.layer_sizes[0]:
            raise ConfigError(
                f"inputs are {list(x.shape)}, but layer_sizes={self.layer_sizes} takes "
                f"{self.layer_sizes[0]} numbers each"
            )
        with jax.default_matmul_precision("highest"):  # or GPUs round float32 to 10 bits
            for layer, activation in zip(self.layers, self.activations, strict=True):
                x = ACTIVATIONS[activation](layer(x))
        return x.astype(self.dtype)


def _initialization(scheme: str, number: int) -> Initialization:
    if scheme != "published":
        return ops.INITIALIZERS[scheme]
    printed = reported.document("mlp_tanh")["weights_full"]
    kernel, bias = np.array(printed[f"W{number}"]).T, np.array(printed[f"b{number}"])  # [neuron][input]

    def fill(values: np.ndarray) -> ops.initializers.Initializer:
        return lambda key, shape, dtype=jnp.float32: jnp.asarray(values, dtype)

    return Initialization(fill(kernel), lambda fan_in: fill(bias))


def _check(sizes: tuple[int, ...], activations: tuple[str, ...], scheme: str) -> None:
    if len(sizes) < 2:
        raise ConfigError(f"layer_sizes={sizes}: name the inputs and one layer at least")
    if len(activations) != len(sizes) - 1:
        raise ConfigError(
            f"layer_sizes={sizes} make {len(sizes) - 1} layers, but there are "
            f"{len(activations)} activations {activations}: give one a layer"
        )
    given = tuple(reported.entry("A/mlp_tanh")["layer_sizes"])
    if scheme == "published" and sizes != given:
        raise ConfigError(
            f"init='published' is report A's {given}, not layer_sizes={sizes}: use init='torch'"
        )


ENTRY = Entry("MLP", MLP, fields=("layer_sizes", "activations"), kind="vector")
