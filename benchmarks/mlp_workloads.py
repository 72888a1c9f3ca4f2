"""Workloads of report A's MLP: scanned training steps, and the scalar autograd engine."""

from typing import Any

import jax
import numpy as np
from jax import lax

from benchmarks.clock import Clock
from benchmarks.jax_model import build, mlp_config, points_batch
from jaxnets.errors import CheckFailedError
from jaxnets.training.step import TrainState
from studies.by_hand import scalar_network
from studies.by_hand.scalar import Value

STEPS = 1_000
"""Training steps per call of the compiled program."""


class ScannedMlpWorkload:
    """Full-batch training with `lax.scan`, `STEPS` steps per call."""

    def __init__(self, shared: None):
        del shared
        self._config, self._batch = mlp_config(), points_batch()
        self._built = build(self._config)
        self._initial = jax.device_get(self._built.state)
        self._device_batch = jax.device_put(self._batch)
        self._state = self._built.state
        self._steps = jax.jit(self._scan, donate_argnums=0)
        self._clock = Clock(self._call, lambda: jax.block_until_ready(self._state))

    def shared_data(self) -> dict[str, Any]:
        """Returns the config, (weight [neurons, inputs], bias [neurons]) by layer, and the points."""
        return {
            "config": self._config,
            "parameters": _layers(self._initial),
            "inputs": self._batch["input"],
            "labels": self._batch["label"],
        }

    def outputs(self) -> np.ndarray:
        """Returns the initial predictions, then all parameters after one step, neuron by neuron."""
        model, inputs = self._built.model, self._batch["input"].astype(np.float32)
        predictions = np.asarray(model.apply(self._initial.variables(), inputs))
        state, _ = jax.jit(self._built.train_step)(self._initial, self._batch)
        rows = [np.column_stack(layer).ravel() for layer in _layers(jax.device_get(state))]
        return np.concatenate([predictions.ravel(), *rows])

    def measure(self, seconds: float) -> float:
        """Returns points per second; raises CheckFailedError if a parameter is not finite."""
        speed = len(self._batch["index"]) * STEPS * self._clock.rate(seconds)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(self._state.params)):
            raise CheckFailedError("mlp_tanh: our parameters are not finite")
        return speed

    def _scan(self, state: TrainState, batch: Any) -> TrainState:
        def step(state: TrainState, _: None) -> tuple[TrainState, None]:
            return self._built.train_step(state, batch)[0], None

        return lax.scan(step, state, length=STEPS)[0]

    def _call(self) -> None:
        self._state = self._steps(self._state, self._device_batch)


class ScalarEngineWorkload:
    """The same training steps with the scalar autograd engine, in Python and double precision."""

    def __init__(self, shared: dict[str, Any]):
        config = shared["config"]
        self._inputs, self._labels = shared["inputs"].tolist(), shared["labels"].tolist()
        self._rate = config.optimizer.learning_rate
        activations = tuple(config.model.activations)
        self._network = scalar_network.MLP(shared["parameters"], activations)
        self._clock = Clock(self._run_step)

    def outputs(self) -> np.ndarray:
        """Returns the initial predictions, then all parameters after one step, neuron by neuron."""
        predictions = [value.data for value in self._run_step()]
        return np.array(predictions + [value.data for value in self._network.parameters()])

    def measure(self, seconds: float) -> float:
        """Returns points per second."""
        return len(self._inputs) * self._clock.rate(seconds)

    def _run_step(self) -> list[Value]:
        """Runs a step on the sum of squared errors and returns the predictions before it."""
        outputs = [value for row in self._inputs for value in self._network(row)]
        targets = [value for row in self._labels for value in row]
        parameters = self._network.parameters()
        for value in parameters:
            value.gradient = 0.0
        terms = [(o - y) ** 2 for o, y in zip(outputs, targets, strict=True)]
        sum(terms[1:], terms[0]).backward()
        for value in parameters:
            value.data -= self._rate * value.gradient
        return outputs


def _layers(state: TrainState) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns (weight [neurons, inputs], bias [neurons]) by layer."""
    layers = (state.params[f"layer{number + 1}"] for number in range(len(state.params)))
    return [(np.asarray(layer["kernel"]).T, np.asarray(layer["bias"])) for layer in layers]
