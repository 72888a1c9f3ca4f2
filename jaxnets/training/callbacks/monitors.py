"""Callbacks that monitor the validation loss (lower is better) or accuracy (higher is better)."""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import config_dict
from optax import contrib

from jaxnets.training.run import Callback, Run


def make_monitors(config: config_dict.ConfigDict) -> list[Callback]:
    """Returns those that a config with validation uses, in the order of their calls."""
    metric, monitors = config.monitor.metric, []
    if config.plateau.patience is not None:
        monitors.append(ReduceOnPlateau(metric, **config.plateau.to_dict()))
    if config.early_stopping.patience is not None:
        monitors.append(EarlyStopping(metric, **config.early_stopping.to_dict()))
    return [*monitors, CheckpointBest(metric)]


class Monitor(Callback):
    """Compares a metric with its best value."""

    stored: tuple[str, ...] = ("best",)

    def __init__(self, metric: str, min_delta: float = 0.0):
        self.metric, self._min_delta = metric, min_delta
        self.best: float | None = None

    def improved(self, metrics: dict[str, float]) -> bool:
        """True if the metric is better than the best by more than `min_delta`, never for NaN; updates it."""
        value = metrics[self.metric.removeprefix("validation_")]
        sign = -1.0 if self.metric == "validation_loss" else 1.0
        if value != value or (self.best is not None and sign * (value - self.best) <= self._min_delta):
            return False
        self.best = value
        return True


class CheckpointBest(Monitor):
    """Requests a protected checkpoint whenever the metric is the best so far."""

    def on_evaluate(self, run: Run, metrics: dict[str, float]) -> None:
        if self.improved(metrics):
            run.request_checkpoint(best=True)


class EarlyStopping(Monitor):
    """Stops after `patience` (0 means 1) evaluations in a row without improvement, as Keras's callback."""

    stored = ("best", "waited")

    def __init__(self, metric: str, *, patience: int, min_delta: float = 0.0):
        super().__init__(metric, min_delta)
        self._patience, self.waited = max(patience, 1), 0

    def on_evaluate(self, run: Run, metrics: dict[str, float]) -> None:
        self.waited = 0 if self.improved(metrics) else self.waited + 1
        if self.waited >= self._patience:
            count = "1 evaluation" if self.waited == 1 else f"{self.waited} evaluations"
            best = "" if self.best is None else f" over {self.best:.4g}"
            run.stop(f"{self.metric} has not improved{best} for {count}")


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
        dtypes = {name: value.dtype for name, value in self._state._asdict().items()}
        values = {name: jnp.asarray(state[name], dtype) for name, dtype in dtypes.items()}
        self._state = self._state._replace(**values)
