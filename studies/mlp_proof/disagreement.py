"""Why PyTorch's page disagrees with the calculation by hand, reproduced."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxnets.errors import ConfigError
from studies.by_hand import mlp
from studies.mlp_proof.agreement import FLOAT64_LIMIT
from studies.mlp_proof.case import MEAN, SUM, Case, flat
from studies.mlp_proof.check import Check, fact
from studies.mlp_proof.implementations import TorchReference, by_hand_step, column_biases_step

FLOAT32_ROUNDING = float(np.finfo(np.float32).eps)
"""One rounding step of a float32 in [1, 2), as the page's loss is."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One way to read the listing, against the page: `within` of its values, to the printed decimals."""

    name: str
    loss: float
    updated: np.ndarray  # shape=(41,), in the order of case.flat
    largest: float
    within: int


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """The three readings, what our own code says to such biases, and PyTorch's word where there is one."""

    columns: tuple[Column, ...]  # the sum; the mean done right; the mean with (n, 1) biases
    page: np.ndarray  # shape=(41,), as printed
    page_loss: float
    loss_float32: float  # of the mean with (n, 1) biases
    refusal: str  # our error for such biases; empty were they let through
    expected: Mapping[str, float]  # the two mean losses, as they were found before
    pytorch: Mapping[str, float] | None

    def checks(self) -> list[Check]:
        """That the third reading, and no other, is the page; that PyTorch and others found the same."""
        total, right, wrong = self.columns
        found = [
            Check("the mean loss, done right", abs(right.loss - self.expected["right"]), FLOAT64_LIMIT),
            Check(
                "the mean loss with (n, 1) biases",
                abs(wrong.loss - self.expected["wrong"]),
                FLOAT64_LIMIT,
            ),
            fact("(n, 1) biases give all values of PyTorch's page", wrong.within == self.page.size),
            fact("nothing else gives any", total.within == right.within == 0),
            Check("the page's loss, in float32", abs(wrong.loss - self.page_loss), FLOAT32_ROUNDING),
            fact("our code refuses (n, 1) biases", "(4, 1)" in self.refusal),
        ]
        if self.pytorch is not None:
            found.append(Check("PyTorch with (n, 1) biases", self.pytorch["difference"], FLOAT64_LIMIT))
        return found

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        columns = [
            {**dataclasses.asdict(column), "updated": column.updated.tolist()} for column in self.columns
        ]
        return {
            "columns": columns,
            "page_loss": self.page_loss,
            "page_parameters": self.page.tolist(),
            "loss_float32": self.loss_float32,
            "refusal": self.refusal,
            "pytorch": dict(self.pytorch) if self.pytorch is not None else None,
        }


def reproduce(case: Case, oracle: TorchReference | None) -> Disagreement:
    """The three readings of one step; JAX must compute in doubles."""
    total = by_hand_step(case.parameters, **case.step, loss=SUM)
    right = by_hand_step(case.parameters, **case.step, loss=MEAN)
    wrong = column_biases_step(case.columns, **case.step, loss=MEAN)
    single = jax.tree.map(np.float32, (case.columns, case.inputs, case.labels))
    in_float32 = column_biases_step(
        *single, activations=case.activations, loss=MEAN, learning_rate=case.learning_rate
    )
    tables = case.page  # weight and bias by layer
    page = flat(tuple(mlp.Layer(w.values, b.values) for w, b in zip(tables[::2], tables[1::2], strict=True)))
    return Disagreement(
        columns=tuple(
            _column(name, trace, page, tables[0].half_unit)
            for name, trace in [
                ("sum", total),
                ("mean, done right", right),
                ("mean, biases (n, 1)", wrong),
            ]
        ),
        page=page,
        page_loss=case.page_loss,
        loss_float32=float(in_float32.loss),
        refusal=_refusal(case),
        expected={
            "right": case.computed["mean_of_squares"]["loss"],
            "wrong": case.computed["pytorch_page"]["loss_float64"],
        },
        pytorch=None if oracle is None else _by_pytorch(case, oracle, wrong),
    )


def _column(name: str, trace: mlp.Trace, page: np.ndarray, half_unit: float) -> Column:
    updated = flat(trace.updated)
    differences = np.abs(updated - page)
    within = int(np.sum(differences <= half_unit * (1 + 1e-9)))
    return Column(name, float(trace.loss), updated, float(differences.max()), within)


def _refusal(case: Case) -> str:
    try:
        mlp.gradient_step(case.columns, **case.step, loss=MEAN)
    except ConfigError as error:
        return str(error)
    return ""


def _by_pytorch(case: Case, oracle: TorchReference, ours: mlp.Trace) -> Mapping[str, float]:
    step: dict[str, Any] = {**case.step, "loss": MEAN}
    double = oracle.gradient_step(case.columns, **step)
    single = oracle.gradient_step(case.columns, **step, dtype="float32")
    difference = np.abs(flat(double.updated) - flat(ours.updated)).max()
    return {
        "loss": float(double.loss),
        "loss_float32": float(single.loss),
        "difference": float(np.max([difference, abs(double.loss - ours.loss)])),
    }
