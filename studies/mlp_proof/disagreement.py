"""Why the report's PyTorch results differ from those by hand: its listing, reproduced."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxnets.errors import ConfigError
from studies.by_hand import mlp
from studies.mlp_proof.agreement import FLOAT64_LIMIT
from studies.mlp_proof.case import MEAN, SUM, Case, flat
from studies.mlp_proof.check import Check, condition, max_difference
from studies.mlp_proof.implementations import TorchReference, by_hand_step, column_biases_step

FLOAT32_ROUNDING = float(np.finfo(np.float32).eps)
"""The spacing of float32 in [1, 2), where the printed loss lies."""


@dataclasses.dataclass(frozen=True)
class Interpretation:
    """One interpretation of the listing, compared with the printed parameters."""

    name: str
    loss: float
    updated: np.ndarray  # shape=(41,), in the order of case.flat
    max_difference: float
    matching: int  # values equal to the printed ones at their precision


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """The three interpretations, our error for (n, 1) biases, and PyTorch's result if it is installed."""

    interpretations: tuple[Interpretation, ...]  # sum; correct mean; mean with (n, 1) biases
    printed: np.ndarray  # shape=(41,)
    printed_loss: float
    loss_float32: float  # of the mean with (n, 1) biases
    error: str  # our error message for (n, 1) biases; empty if none is raised
    expected: Mapping[str, float]  # the two mean losses, from the report's data file
    pytorch: Mapping[str, float] | None

    def checks(self) -> list[Check]:
        """Returns the checks that only the third interpretation reproduces the printed values."""
        total, mean, with_columns = self.interpretations
        found = [
            Check("the mean loss", abs(mean.loss - self.expected["right"]), FLOAT64_LIMIT),
            Check(
                "the mean loss with (n, 1) biases",
                abs(with_columns.loss - self.expected["wrong"]),
                FLOAT64_LIMIT,
            ),
            condition(
                "(n, 1) biases reproduce all of PyTorch's values", with_columns.matching == self.printed.size
            ),
            condition("nothing else reproduces any", total.matching == mean.matching == 0),
            Check(
                "PyTorch's printed loss, in float32",
                abs(with_columns.loss - self.printed_loss),
                FLOAT32_ROUNDING,
            ),
            condition("our code rejects (n, 1) biases", "(4, 1)" in self.error),
        ]
        if self.pytorch is not None:
            found.append(Check("PyTorch with (n, 1) biases", self.pytorch["difference"], FLOAT64_LIMIT))
        return found

    def as_json(self) -> dict[str, Any]:
        """Returns a JSON-serialisable dictionary."""
        interpretations = [
            {**dataclasses.asdict(each), "updated": each.updated.tolist()} for each in self.interpretations
        ]
        return {
            "interpretations": interpretations,
            "printed_loss": self.printed_loss,
            "printed_parameters": self.printed.tolist(),
            "loss_float32": self.loss_float32,
            "error": self.error,
            "pytorch": dict(self.pytorch) if self.pytorch is not None else None,
        }


def reproduce(case: Case, oracle: TorchReference | None) -> Disagreement:
    """Computes the three interpretations of the step; JAX must be in double precision."""
    total = by_hand_step(case.parameters, **case.step, loss=SUM)
    mean = by_hand_step(case.parameters, **case.step, loss=MEAN)
    with_columns = column_biases_step(case.columns, **case.step, loss=MEAN)
    single = jax.tree.map(np.float32, (case.columns, case.inputs, case.labels))
    in_float32 = column_biases_step(
        *single, activations=case.activations, loss=MEAN, learning_rate=case.learning_rate
    )
    tables = case.pytorch  # weight and bias by layer
    printed = flat(
        tuple(mlp.Layer(w.values, b.values) for w, b in zip(tables[::2], tables[1::2], strict=True))
    )
    return Disagreement(
        interpretations=tuple(
            _compare(name, trace, printed, tables[0].half_unit)
            for name, trace in [("sum", total), ("mean", mean), ("mean, biases (n, 1)", with_columns)]
        ),
        printed=printed,
        printed_loss=case.pytorch_loss,
        loss_float32=float(in_float32.loss),
        error=_error(case),
        expected={
            "right": case.computed["mean_of_squares"]["loss"],
            "wrong": case.computed["pytorch_page"]["loss_float64"],
        },
        pytorch=None if oracle is None else _by_pytorch(case, oracle, with_columns),
    )


def _compare(name: str, trace: mlp.Trace, printed: np.ndarray, half_unit: float) -> Interpretation:
    updated = flat(trace.updated)
    matching = int(np.sum(np.abs(updated - printed) <= half_unit * (1 + 1e-9)))
    return Interpretation(name, float(trace.loss), updated, max_difference(updated, printed), matching)


def _error(case: Case) -> str:
    try:
        mlp.gradient_step(case.columns, **case.step, loss=MEAN)
    except ConfigError as error:
        return str(error)
    return ""


def _by_pytorch(case: Case, oracle: TorchReference, ours: mlp.Trace) -> Mapping[str, float]:
    step: dict[str, Any] = {**case.step, "loss": MEAN}
    double = oracle.gradient_step(case.columns, **step)
    single = oracle.gradient_step(case.columns, **step, dtype="float32")
    return {
        "loss": float(double.loss),
        "loss_float32": float(single.loss),
        "difference": max_difference((double.loss, double.updated), (ours.loss, ours.updated)),
    }
