"""How two implementations that agree in every step drift apart when each goes on from its own state."""

from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import config_dict

from jaxnets.bench.oracles import load
from jaxnets.bench.ours import build, random_batch

LOSS, PARAMETERS = "loss", "all parameters"
"""What `compare_steps` names beside the tensors."""


def compare_steps(
    config: config_dict.ConfigDict,
    *,
    steps: int,
    restart: bool,
    variables: dict[str, Any] | None = None,
) -> Iterator[dict[str, float]]:
    """After each training step of ours and PyTorch's, on batches of noise: how far they are apart.

    Both begin in the same state; with `restart` PyTorch takes over ours (parameters, statistics and
    optimizer buffers) before every step. Yields relative L2 differences by PyTorch's names of the
    tensors, of all parameters as one vector, and of the loss. For float64, JAX's x64 is to be on.
    """
    ours = build(config, variables)
    theirs = load("mirror").Mirror(config)
    step, state = jax.jit(ours.train_step), ours.state
    for number in range(steps):
        if restart or number == 0:
            theirs.copy(state)
        batch = random_batch(config, seed=number)
        state, metrics = step(state, batch)
        our_loss = float(metrics["loss"] / metrics["normalizer"])
        their_loss = theirs.step(batch)
        yield {
            LOSS: abs(our_loss - their_loss) / abs(their_loss),
            PARAMETERS: theirs.distance_of_parameters(state.params),
            **theirs.distances(state.variables()),
        }
