"""LeNet-5 (LeCun et al. 1998, section II.B) in today's form: ReLU, max pooling, full connections."""

import functools

import flax.linen as nn
import jax

from jaxnets.errors import ConfigError
from jaxnets.models.base import ACTIVATIONS, Entry, Network


class LeNet5(Network):
    """Two 5x5 convolutions, each pooled, and three dense layers: [B, H, W, C] -> [B, num_classes].

    28 pixels a side with one channel and 10 classes make 44,426 parameters; 16 pixels are the least, 22 with
    kernels of 7. Raises ConfigError for images that leave nothing to the dense layers.
    The paper's squashing functions and average pooling are `activation` and `pooling`; its sparse connections
    between S2 and C3 are not here.

    References:
        LeCun et al. 1998, Gradient-based learning applied to document recognition.
    """

    activation: str = "relu"
    pooling: str = "max"
    kernel_size: int = 5

    def setup(self) -> None:
        layers = self.layers(conv_bias=True)
        self.conv1 = layers.conv(6, self.kernel_size)
        self.conv2 = layers.conv(16, self.kernel_size)
        self.dense1 = layers.dense(120)
        self.dense2 = layers.dense(84)
        self.drop = nn.Dropout(self.dropout)
        self.classifier = layers.dense(self.num_classes)

    def features(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, h, w, 16] after the second pooling; h = ((H - k + 1) // 2 - k + 1) // 2."""
        del train
        act, size = ACTIVATIONS[self.activation], min(x.shape[1:3])
        if size < (smallest := 3 * self.kernel_size + 1):  # one pixel is left to the dense layers
            raise ConfigError(
                f"LeNet-5 with kernels of {self.kernel_size} pixels takes images of {smallest} pixels or "
                f"more; --config.data.image_size={size} is too small"
            )
        pool = functools.partial(self.layers().pool, kind=self.pooling, window=2, stride=2)
        return pool(act(self.conv2(pool(act(self.conv1(x))))))

    def head(self, features: jax.Array, *, train: bool) -> jax.Array:
        """[B, h, w, 16] -> logits [B, num_classes], in the parameters' dtype."""
        act = ACTIVATIONS[self.activation]
        x = act(self.dense1(features.reshape(features.shape[0], -1)))
        x = act(self.dense2(x))
        return self.classifier(self.drop(x, deterministic=not train)).astype(self.dtype)


ENTRY = Entry(
    "LeNet-5", LeNet5, ("activation", "pooling", "kernel_size"), smallest=16, native_size=28, channels=1
)
