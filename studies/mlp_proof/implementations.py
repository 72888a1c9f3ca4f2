"""Implementations of one gradient descent step of an MLP."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import config_dict
from numpy.typing import ArrayLike

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.models.mlp import MLP
from jaxnets.runtime import xla
from jaxnets.training.loss import SQUARED_ERRORS, make_loss
from jaxnets.training.optimizer import make_optimizer
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.step import TrainState, make_train_step
from studies.by_hand import column_biases, mlp, scalar_network
from studies.mlp_proof.case import SUM, Case, flat

BY_HAND, SCALAR, GRAD64, GRAD32 = "by hand", "scalar engine", "jax.grad float64", "jax.grad float32"
PYTORCH = "PyTorch"

by_hand_step = xla.jit(mlp.gradient_step, static_argnames=("activations", "loss"))
"""Compiled as a whole, which is faster than operation by operation."""
column_biases_step = xla.jit(column_biases.gradient_step, static_argnames=("activations", "loss"))


class TorchStep(Protocol):
    """The signature of `studies.by_hand.mlp.gradient_step` in another library."""

    def __call__(
        self,
        parameters: Sequence[tuple[ArrayLike, ArrayLike]],
        inputs: ArrayLike,
        labels: ArrayLike,
        *,
        activations: Sequence[str],
        loss: str,
        learning_rate: float,
        dtype: str = "float64",
    ) -> mlp.Trace:
        """Takes one step; biases keep their shape."""
        ...


class TorchReference(NamedTuple):
    """PyTorch's version and its implementation."""

    version: str
    gradient_step: TorchStep


@dataclasses.dataclass(frozen=True)
class Implementation:
    """The results of one implementation; `tables` have the names of the printed tables."""

    name: str
    loss: float
    predictions: np.ndarray  # shape=(samples,)
    updated: np.ndarray  # shape=(41,), in the order of case.flat
    tables: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, name: str, trace: mlp.Trace) -> "Implementation":
        """Creates an implementation from a trace of all intermediate values."""
        numbers = range(1, len(trace.z) + 1)
        columns = {"z": trace.z, "a": trace.a, "delta_": trace.delta}
        tables = {f"{kind}{n}": np.asarray(columns[kind][n - 1]) for kind in columns for n in numbers}
        tables |= _updated_tables(trace.updated)
        predictions = np.asarray(trace.a[-1])[0]
        return cls(name, float(trace.loss), predictions, flat(trace.updated), tables)

    def values(self) -> np.ndarray:
        """Returns the loss, the predictions and the updated parameters as one vector."""
        return np.concatenate([[self.loss], self.predictions, self.updated])


def compute(case: Case, oracle: TorchReference | None, loss: str = SUM) -> dict[str, Implementation]:
    """Returns the results of all implementations by name; JAX must be in double precision."""
    step: dict[str, Any] = {**case.step, "loss": loss}
    implementations = [
        Implementation.of(BY_HAND, by_hand_step(case.parameters, **step)),
        Implementation.of(SCALAR, scalar_network.gradient_step(case.parameters, **step)),
        _by_training_code(GRAD64, case, loss, "float64"),
        _by_training_code(GRAD32, case, loss, "float32"),
    ]
    if oracle is not None:
        implementations.append(Implementation.of(PYTORCH, oracle.gradient_step(case.parameters, **step)))
    return {each.name: each for each in implementations}


def _by_training_code(name: str, case: Case, loss: str, dtype: str) -> Implementation:
    """Takes the step with the package's own training step: the Linen MLP, `jax.grad` and optax's SGD."""
    config = _config(case, loss, dtype)
    model = models.create(config.model)
    optimizer = make_optimizer(config, optax.constant_schedule(config.optimizer.learning_rate))
    state = TrainState.create(
        {"params": as_params(case.parameters, dtype), "batch_stats": {}}, optimizer, seed=0
    )
    step = make_train_step(
        model, make_loss(config.train), optimizer, preprocess=make_preprocess(config, train=True)
    )
    samples = len(case.inputs)
    batch = {
        "input": case.inputs,
        "label": case.labels,
        "index": np.arange(samples, dtype=np.int64),
        "epoch": np.zeros(samples, np.int32),
        "weight": np.ones(samples, np.float32),
    }
    with jax.default_matmul_precision("highest"):  # accelerators would round float32 to 10 bits
        predictions = xla.jit(model.apply)(state.variables(), jnp.asarray(case.inputs, dtype))
        state, metrics = xla.jit(step)(state, batch)
    updated = tuple(
        mlp.Layer(np.asarray(layer["kernel"]).T, np.asarray(layer["bias"]))
        for _, layer in sorted(state.params.items())
    )
    predictions = np.asarray(predictions)
    return Implementation(
        name=name,
        loss=float(metrics["loss"] / metrics.get("weight_sum", 1)),
        predictions=predictions[:, 0],
        updated=flat(updated),
        tables={f"a{len(updated)}": predictions.T, **_updated_tables(updated)},
    )


def as_params(parameters: mlp.Parameters, dtype: str = "float64") -> dict[str, dict[str, jax.Array]]:
    """Returns the parameters of the Linen MLP, with kernels [inputs, neurons]."""
    return {
        f"layer{number}": {
            "kernel": jnp.asarray(layer.weight, dtype).T,
            "bias": jnp.asarray(layer.bias, dtype),
        }
        for number, layer in enumerate(parameters, 1)
    }


def training_loss(
    sizes: tuple[int, ...], activations: tuple[str, ...], loss: str
) -> Callable[[mlp.Parameters, ArrayLike, ArrayLike], jax.Array]:
    """Returns the loss of the Linen MLP in float64, a function of parameters, inputs and labels."""
    model = MLP(layer_sizes=sizes, activations=activations, dtype=jnp.float64)

    def compute(parameters: mlp.Parameters, inputs: ArrayLike, labels: ArrayLike) -> jax.Array:
        x, y = jnp.asarray(inputs), jnp.asarray(labels)
        outputs: Any = model.apply({"params": as_params(parameters)}, x)
        terms = SQUARED_ERRORS[loss](outputs, y, jnp.ones(len(x)))
        return terms.total if terms.weight_sum is None else terms.total / terms.weight_sum

    return compute


def _config(case: Case, loss: str, dtype: str) -> config_dict.ConfigDict:
    config = config_lib.default_config()
    settings = {
        "model.name": "mlp",
        "model.layer_sizes": (case.inputs.shape[1], *(len(layer.bias) for layer in case.parameters)),
        "model.activations": case.activations,
        "model.dtype": dtype,
        "train.loss": loss,
        "train.steps": 1,
        "train.batch_size": len(case.inputs),
        "optimizer.learning_rate": case.learning_rate,
        "optimizer.momentum": 0.0,
    }
    for path, value in settings.items():
        config_lib.set_field(config, path, value)
    config_lib.validate(config)
    return config


def _updated_tables(updated: mlp.Parameters) -> dict[str, np.ndarray]:
    return {
        f"{kind}{number}'": np.asarray(values)
        for number, layer in enumerate(updated, 1)
        for kind, values in zip("Wb", layer, strict=True)
    }
