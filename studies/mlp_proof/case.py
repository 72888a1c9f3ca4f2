"""Report A's network and data, and every number that it prints of one gradient descent step."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnets import reported
from studies.by_hand.mlp import Layer, Parameters
from studies.mlp_proof.check import max_difference

FORWARD_DECIMALS, BACKWARD_DECIMALS, PYTORCH_DECIMALS = 3, 8, 4
"""Printed decimals of z and a; of delta and updated parameters; of PyTorch's updated parameters."""
SUM, MEAN, HALF = "sum_squared_error", "mean_squared_error", "half_squared_error"


@dataclasses.dataclass(frozen=True)
class Table:
    """A printed table, named z1, delta_1, W1' and so on."""

    name: str
    values: np.ndarray
    decimals: int

    @property
    def half_unit(self) -> float:
        """Half a unit of the last printed digit: the largest rounding error."""
        return 0.5 * 10**-self.decimals

    def difference(self, computed: np.ndarray) -> float:
        """Returns the largest difference from the printed values."""
        return max_difference(computed, self.values)

    def count_mismatches(self, computed: np.ndarray) -> int:
        """Returns how many computed values do not round to the printed ones."""
        return int(np.sum(np.abs(computed - self.values) > self.half_unit * (1 + 1e-9)))


@dataclasses.dataclass(frozen=True)
class Case:
    """The initial network, the four samples, and the printed results of the step."""

    parameters: Parameters
    rounded: Parameters  # the weights with 3 decimals, as printed next to the tables
    inputs: np.ndarray  # shape=(samples, inputs)
    labels: np.ndarray  # shape=(samples, 1)
    activations: tuple[str, ...]
    learning_rate: float
    tables: tuple[Table, ...]  # computed by hand
    single_sample: tuple[Table, ...]  # computed by hand for the first sample only
    engine_predictions: np.ndarray  # shape=(samples,), by the report's scalar engine
    engine_parameters: np.ndarray  # shape=(41,), in the order of `flat`
    pytorch: tuple[Table, ...]  # PyTorch's updated parameters
    pytorch_loss: float
    computed: Mapping[str, Any]  # derived from the report, not printed in it

    @property
    def columns(self) -> Parameters:
        """The parameters with biases (n, 1), as the report passes them to PyTorch."""
        return tuple(Layer(layer.weight, layer.bias[:, None]) for layer in self.parameters)

    @property
    def step(self) -> dict[str, Any]:
        """Keyword arguments of every `gradient_step`, without the parameters and the loss."""
        return {
            "inputs": self.inputs,
            "labels": self.labels,
            "activations": self.activations,
            "learning_rate": self.learning_rate,
        }

    @property
    def first_step(self) -> dict[str, Any]:
        """Like `step`, with the first sample Xs1 only."""
        return {**self.step, "inputs": self.inputs[:1], "labels": self.labels[:1]}


def read_case() -> Case:
    """Returns report A's case in float64."""
    printed = reported.document("mlp_tanh")
    names = list(_layer_names(printed["weights_full"]))
    hand, pytorch = printed["hand_tables"], printed["pytorch"]
    return Case(
        parameters=_parameters(printed["weights_full"]),
        rounded=_parameters(printed["weights_rounded"]),
        inputs=np.array(printed["data"]["X"]),
        labels=np.array(printed["data"]["y"])[:, None],
        activations=("tanh",) * len(names),
        learning_rate=printed["learning_rate"],
        tables=(
            *(_table(hand, f"{kind}{n}", FORWARD_DECIMALS) for n in names for kind in "za"),
            *(_table(hand, f"delta_{n}", BACKWARD_DECIMALS) for n in names),
            *(
                dataclasses.replace(table, name=f"{table.name}'")
                for n in names
                for kind in "Wb"
                for table in [_table(printed["hand_updated"], f"{kind}{n}", BACKWARD_DECIMALS)]
            ),
        ),
        single_sample=tuple(
            Table(name, np.array(values)[:, None], FORWARD_DECIMALS)
            for name, values in hand["single_sample"].items()
            if name[1:].isdigit() and values is not None
        ),
        engine_predictions=np.array(printed["micrograd"]["predictions"]),
        engine_parameters=np.array([entry["value"] for entry in printed["micrograd"]["updated_parameters"]]),
        pytorch=tuple(
            Table(name, np.array(tensor["values"]), PYTORCH_DECIMALS)
            for name, tensor in pytorch["updated_parameters"].items()
        ),
        pytorch_loss=pytorch["final_loss"],
        computed=printed["computed"],
    )


def flat(parameters: Parameters) -> np.ndarray:
    """Returns all values by layer and neuron, the weights and then the bias."""
    rows = [np.column_stack([np.asarray(w), np.ravel(np.asarray(b))]) for w, b in parameters]
    return np.concatenate([row.ravel() for row in rows])


def _layer_names(weights: Mapping[str, Any]) -> list[str]:
    return [name[1:] for name in weights if name.startswith("W") and name[1:].isdigit()]


def _parameters(weights: Mapping[str, Any]) -> Parameters:
    names = _layer_names(weights)
    return tuple(Layer(np.array(weights[f"W{n}"]), np.array(weights[f"b{n}"])) for n in names)


def _table(tables: Mapping[str, Any], name: str, decimals: int) -> Table:
    return Table(name, np.array(tables[name]["values"]), decimals)
