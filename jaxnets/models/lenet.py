"""LeNet-5 (LeCun et al. 1998, section II.B) in today's form: ReLU, max pooling, full connections."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnets import ops


class LeNet5(nn.Module):
    """Two 5x5 convolutions, each pooled, and three dense layers: [B, H, W, C] -> [B, num_classes].

    28 pixels a side with one channel and 10 classes make 44,426 parameters; 16 pixels are the least.
    The paper's squashing functions, average pooling and sparse connections between S2 and C3 are not here.
    """

    num_classes: int
    dropout: float = 0.0
    init_style: str = "torch"
    dtype: Any = jnp.float32
    compute_dtype: Any = None

    def setup(self) -> None:
        kernel_init, bias_init = ops.BY_STYLE[self.init_style]
        shared = {
            "kernel_init": kernel_init,
            "bias_init": bias_init,
            "dtype": self.dtype,
            "compute_dtype": self.compute_dtype,
        }
        self.conv1 = ops.Conv(6, (5, 5), **shared)
        self.conv2 = ops.Conv(16, (5, 5), **shared)
        self.dense1 = ops.Dense(120, **shared)
        self.dense2 = ops.Dense(84, **shared)
        self.drop = nn.Dropout(self.dropout)
        self.classifier = ops.Dense(self.num_classes, **shared)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, ((H - 4) // 2 - 4) // 2, the same of W, 16], after the second pooling."""
        del train
        x = ops.max_pool(nn.relu(self.conv1(x)), (2, 2), strides=(2, 2))
        return ops.max_pool(nn.relu(self.conv2(x)), (2, 2), strides=(2, 2))

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, 16] -> logits [B, num_classes], in the parameters' dtype."""
        x = nn.relu(self.dense1(features.reshape(features.shape[0], -1)))
        x = nn.relu(self.dense2(x))
        return self.classifier(self.drop(x, deterministic=not train)).astype(self.dtype)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        return self.head(self.features(x, train=train), train=train)
