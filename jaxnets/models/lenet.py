"""LeNet-5 (LeCun et al. 1998, section II.B) in today's form: ReLU, max pooling, full connections."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops
from jaxnets.errors import ConfigError
from jaxnets.models.blocks import ACTIVATIONS, pool
from jaxnets.ops.implementation import Implementation


def smallest_image(kernel_size: int) -> int:
    """Pixels a side that leave one to the dense layers."""
    return 2 * (2 + kernel_size - 1) + kernel_size - 1


class LeNet5(nn.Module):
    """Two 5x5 convolutions, each pooled, and three dense layers: [B, H, W, C] -> [B, num_classes].

    28 pixels a side with one channel and 10 classes make 44,426 parameters; 16 pixels are the least, 22 with
    kernels of 7. Raises ConfigError for images that leave nothing to the dense layers.
    The paper's squashing functions and average pooling are `activation` and `pooling`; its sparse connections
    between S2 and C3 are not here.
    """

    num_classes: int
    activation: str = "relu"
    pooling: str = "max"
    kernel_size: int = 5
    dropout: float = 0.0
    init_scheme: str = "torch"
    implementation: Implementation = "auto"
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    def setup(self) -> None:
        kernel_init, bias_init = ops.INITIALIZERS[self.init_scheme]
        shared = {
            "kernel_init": kernel_init,
            "bias_init": bias_init,
            "dtype": self.dtype,
            "compute_dtype": self.compute_dtype,
        }
        side = self.kernel_size
        self.conv1 = ops.Conv(6, (side, side), implementation=self.implementation, **shared)
        self.conv2 = ops.Conv(16, (side, side), implementation=self.implementation, **shared)
        self.dense1 = ops.Dense(120, **shared)
        self.dense2 = ops.Dense(84, **shared)
        self.drop = nn.Dropout(self.dropout)
        self.classifier = ops.Dense(self.num_classes, **shared)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, ((H - k) // 2 - k) // 2, the same of W, 16] after the second pooling, with
        k = kernel_size - 1.
        """
        del train
        squash = ACTIVATIONS[self.activation]
        size = min(x.shape[1:3])
        if size < smallest_image(self.kernel_size):
            raise ConfigError(
                f"LeNet-5 with kernels of {self.kernel_size} pixels takes images of "
                f"{smallest_image(self.kernel_size)} pixels or more; --config.data.image_size={size} is too "
                "small"
            )
        return self._pool(squash(self.conv2(self._pool(squash(self.conv1(x))))))

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, 16] -> logits [B, num_classes], in the parameters' dtype."""
        squash = ACTIVATIONS[self.activation]
        x = squash(self.dense1(features.reshape(features.shape[0], -1)))
        x = squash(self.dense2(x))
        return self.classifier(self.drop(x, deterministic=not train)).astype(self.dtype)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        return self.head(self.features(x, train=train), train=train)

    def _pool(self, x: jax.Array) -> jax.Array:
        return pool(x, self.pooling, (2, 2), strides=(2, 2), implementation=self.implementation)
