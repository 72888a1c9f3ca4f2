"""Report A's network and data, and every number that the report prints of one step."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnets import reported
from studies.by_hand.mlp import Layer, Parameters

FORWARD_DECIMALS, BACKWARD_DECIMALS, PAGE_DECIMALS = 3, 8, 4
"""With how many decimals the report prints z and a; delta and updated parameters; PyTorch's page."""
SUM, MEAN, HALF = "sum_squared_error", "mean_squared_error", "half_squared_error"


@dataclasses.dataclass(frozen=True)
class Table:
    """A printed table, by a name such as z1, delta_1 or W1'; `values` are in its orientation."""

    name: str
    values: np.ndarray
    decimals: int

    @property
    def half_unit(self) -> float:
        """The most that a rounded value may be off: half a unit of its last digit."""
        return 0.5 * 10**-self.decimals

    def difference(self, computed: np.ndarray) -> float:
        """The largest difference to the printed values."""
        return float(np.max(np.abs(computed - self.values)))

    def off(self, computed: np.ndarray) -> int:
        """How many of the computed values do not round to the printed ones."""
        return int(np.sum(np.abs(computed - self.values) > self.half_unit * (1 + 1e-9)))


@dataclasses.dataclass(frozen=True)
class Case:
    """The network before its step, the four samples, and what is printed of the step."""

    parameters: Parameters
    rounded: Parameters  # the same weights with 3 decimals, as shown beside the hand tables
    inputs: np.ndarray  # shape=(samples, inputs)
    labels: np.ndarray  # shape=(samples, 1)
    activations: tuple[str, ...]
    learning_rate: float
    tables: tuple[Table, ...]  # by hand
    single_sample: tuple[Table, ...]  # the first sample alone, by hand
    engine_predictions: np.ndarray  # shape=(samples,), by the report's scalar engine
    engine_parameters: np.ndarray  # shape=(41,), in the order of `flat`
    page: tuple[Table, ...]  # PyTorch's updated parameters
    page_loss: float
    computed: Mapping[str, Any]  # what was computed from the report, and is not printed in it

    @property
    def columns(self) -> Parameters:
        """The parameters with biases (n, 1), as the report hands them to PyTorch."""
        return tuple(Layer(layer.weight, layer.bias[:, None]) for layer in self.parameters)

    @property
    def step(self) -> dict[str, Any]:
        """What every way of computing the step takes, but the parameters and the loss."""
        return {
            "inputs": self.inputs,
            "labels": self.labels,
            "activations": self.activations,
            "learning_rate": self.learning_rate,
        }

    @property
    def first_step(self) -> dict[str, Any]:
        """The same on the first sample, Xs1, alone."""
        return {**self.step, "inputs": self.inputs[:1], "labels": self.labels[:1]}


def read_case() -> Case:
    """Report A's case, in doubles."""
    printed = reported.document("mlp_tanh")
    names = list(_layer_names(printed["weights_full"]))
    hand, page = printed["hand_tables"], printed["pytorch"]
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
        page=tuple(
            Table(name, np.array(tensor["values"]), PAGE_DECIMALS)
            for name, tensor in page["updated_parameters"].items()
        ),
        page_loss=page["final_loss"],
        computed=printed["computed"],
    )


def flat(parameters: Parameters) -> np.ndarray:
    """All values layer by layer, neuron by neuron, the weights by input and then the bias."""
    rows = [np.column_stack([np.asarray(w), np.ravel(np.asarray(b))]) for w, b in parameters]
    return np.concatenate([row.ravel() for row in rows])


def _layer_names(weights: Mapping[str, Any]) -> list[str]:
    return [name[1:] for name in weights if name.startswith("W") and name[1:].isdigit()]


def _parameters(weights: Mapping[str, Any]) -> Parameters:
    names = _layer_names(weights)
    return tuple(Layer(np.array(weights[f"W{n}"]), np.array(weights[f"b{n}"])) for n in names)


def _table(tables: Mapping[str, Any], name: str, decimals: int) -> Table:
    return Table(name, np.array(tables[name]["values"]), decimals)
