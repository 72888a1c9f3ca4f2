"""Column biases (n, 1) in torch.nn.Linear, which broadcasts them along the neurons.

nn.Linear computes X Wᵀ + b as [samples, neurons], so a column (n, 1) is broadcast along the neurons: b[i] is
added to sample i. PyTorch accepts this if n is the number of samples or 1.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxnets.errors import ConfigError
from studies.by_hand import mlp
from studies.by_hand.shapes import check, check_samples


def gradient_step(
    parameters: Sequence[tuple[ArrayLike, ArrayLike]],
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    activations: Sequence[str],
    loss: str,
    learning_rate: float | jax.Array,
) -> mlp.Trace:
    """Like `mlp.gradient_step`, but every bias is a column (n, 1), broadcast as in PyTorch.

    Raises ConfigError, like PyTorch, unless n is 1 or the number of samples.
    """
    check([(weight, np.empty(np.shape(weight)[:1])) for weight, _ in parameters], activations)
    check_samples(parameters, inputs, labels)
    samples = np.shape(inputs)[0]
    for number, (weight, bias) in enumerate(parameters, 1):
        neurons = np.shape(weight)[0]
        if np.shape(bias) != (neurons, 1) or neurons not in (1, samples):
            raise ConfigError(
                f"b{number} has shape {np.shape(bias)}, which does not broadcast to {samples} samples "
                f"by {neurons} neurons as a column"
            )
    rows = tuple(mlp.Layer(jnp.asarray(w), jnp.asarray(b).T) for w, b in parameters)
    trace = mlp.propagate(rows, inputs, labels, activations, loss, learning_rate)
    return mlp.with_biases(trace, lambda row: row.T)
