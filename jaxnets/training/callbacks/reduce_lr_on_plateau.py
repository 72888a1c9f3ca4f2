"""Reduction of the learning rate on a plateau of the monitored metric."""

from typing import Any

import jax
import jax.numpy as jnp
from optax import contrib

from jaxnets.training.callbacks.base import Callback
from jaxnets.training.run import Run


class ReduceOnPlateau(Callback):
    """optax.contrib.reduce_on_plateau, updated once per evaluation; its scale multiplies the learning rate.

    The rate is reduced after `patience` evaluations in a row without a relative improvement of `min_delta`,
    as in optax and Keras (0 means 1); PyTorch's ReduceLROnPlateau waits for one more.
    """

    def __init__(self, metric: str, *, patience: int, min_delta: float, **options: float):
        self._metric = metric
        self._transform: Any = contrib.reduce_on_plateau(patience=max(patience, 1), rtol=min_delta, **options)
        self._state: Any = self._transform.init({})  # a NamedTuple of scalars

    def on_evaluate(self, run: Run, metrics: dict[str, float]) -> None:
        # optax minimises, so accuracy is passed as the error rate.
        value = metrics["loss"] if self._metric == "validation_loss" else 1.0 - metrics["accuracy"]
        before = float(self._state.scale)
        _, self._state = self._transform.update({}, self._state, value=jnp.asarray(value, jnp.float32))
        if float(self._state.scale) != before:
            run.scale_learning_rate(float(self._state.scale))

    def state(self) -> dict[str, Any]:
        return {name: value.item() for name, value in jax.device_get(self._state)._asdict().items()}

    def restore(self, state: dict[str, Any]) -> None:
        arrays = {
            name: jnp.asarray(state[name], value.dtype) for name, value in self._state._asdict().items()
        }
        self._state = type(self._state)(**arrays)
