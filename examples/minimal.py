"""Trains a small network on handwritten digits with the library's training step: no config, no run directory.

python examples/minimal.py takes a few seconds; the accuracy on the test images is about 98 %.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from jaxnets.runtime import xla
from jaxnets.training.loss import cross_entropy
from jaxnets.training.step import TrainState, add_metrics, make_eval_step, make_train_step


class Network(nn.Module):
    """Images [B, 8, 8, 1] -> logits [B, 10]."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(nn.Conv(32, (3, 3))(x))
        x = nn.max_pool(nn.relu(nn.Conv(64, (3, 3))(x)), (2, 2), (2, 2))
        x = nn.Dropout(0.25, deterministic=not train)(x.reshape(len(x), -1))
        return nn.Dense(10)(x)


def preprocess(batch, key):
    """Returns inputs in [0, 1], and one-hot targets; augmentation would use the key."""
    return batch["image"].astype(jnp.float32) / 16, jax.nn.one_hot(batch["label"], 10)


def make_batch(indices):
    """Returns a batch of the digits at `indices`; weight 0 would mark padding."""
    labels, weight = digits.target[indices].astype(np.int32), np.ones(len(indices), np.float32)
    return {"image": digits.images[indices, :, :, None], "label": labels, "index": indices, "weight": weight}


digits = load_digits()
indices = np.random.default_rng(0).permutation(len(digits.target))
train, test = indices[:1400], indices[1400:]

model, optimizer = Network(), optax.adam(1e-3)
variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)
state = TrainState.create({**variables, "batch_stats": {}}, optimizer, seed=0)
train_step = xla.jit(make_train_step(model, cross_entropy, optimizer, preprocess=preprocess))
eval_step = xla.jit(make_eval_step(model, cross_entropy, preprocess=preprocess))

for epoch in range(1, 11):
    total, order = None, np.random.default_rng(epoch).permutation(train)
    for batch in map(make_batch, order.reshape(-1, 100)):
        state, metrics = train_step(state, batch)
        total = add_metrics(total, metrics)
    tested = eval_step(state, make_batch(test))
    print(f"epoch {epoch:2}  loss {total['loss'] / total['weight_sum']:.3f}", end="  ")
    print(f"test accuracy {100 * tested['correct'] / tested['examples']:.1f} %")
