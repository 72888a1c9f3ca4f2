"""Reduce the learning rate where the watched metric stands still."""

from typing import Any

import jax
import jax.numpy as jnp
from optax import contrib

from jaxnets.training.callbacks.base import Callback
from jaxnets.training.run import Run


class ReduceOnPlateau(Callback):
    """optax.contrib.reduce_on_plateau, fed once an evaluation; its scale multiplies the learning rate.

    The rate falls at the `patience`-th evaluation in a row without gain, in optax and in Keras; PyTorch's
    ReduceLROnPlateau waits for one more. 0 is taken as 1, as in Keras: optax would reduce at every gain.
    """

    def __init__(
        self,
        metric: str,
        *,
        patience: int,
        factor: float,
        cooldown: int,
        threshold: float,
        min_scale: float,
    ):
        self._key = metric.removeprefix("validation_")
        self._rule: Any = contrib.reduce_on_plateau(
            factor=factor,
            patience=max(patience, 1),
            rtol=threshold,
            cooldown=cooldown,
            min_scale=min_scale,
        )
        self._state: Any = self._rule.init({})  # a NamedTuple of scalars

    def epoch(self, run: Run, metrics: dict[str, float]) -> None:
        # optax's rule minimises: accuracy, which is to rise, goes in as the error rate.
        value = metrics["loss"] if self._key == "loss" else 1.0 - metrics["accuracy"]
        before = float(self._state.scale)
        _, self._state = self._rule.update({}, self._state, value=jnp.asarray(value, jnp.float32))
        if float(self._state.scale) != before:
            run.scale_learning_rate(float(self._state.scale))

    def state(self) -> dict[str, Any]:
        return {name: value.item() for name, value in jax.device_get(self._state)._asdict().items()}

    def restore(self, state: dict[str, Any]) -> None:
        self._state = type(self._state)(
            **{
                name: jnp.asarray(state[name], value.dtype)
                for name, value in self._state._asdict().items()
            }
        )
