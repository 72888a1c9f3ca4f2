"""Checks a gradient descent step of the reports' MLP in several implementations against the reports."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from jaxnets.errors import CheckFailedError
from jaxnets.runtime import console
from studies.mlp_proof import (
    agreement,
    disagreement,
    errata,
    implementations,
    layout,
    picture,
    relu_variant,
)
from studies.mlp_proof.case import Case, read_case
from studies.mlp_proof.check import Check
from studies.mlp_proof.implementations import Implementation, TorchReference


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of `verify`."""

    as_json: bool = False
    every_value: bool = False
    errata: bool = False
    plot: Path | None = None


@dataclasses.dataclass(frozen=True)
class Proof:
    """All implementations, comparisons and checks."""

    case: Case
    ways: dict[str, Implementation]
    agreement: agreement.Agreement
    disagreement: disagreement.Disagreement
    relu_variant: relu_variant.ReluVariant
    errata: errata.Errata

    def checks(self) -> list[Check]:
        """Returns all checks."""
        return [
            *self.agreement.checks(),
            *self.disagreement.checks(),
            *self.relu_variant.checks(),
        ]

    def as_json(self, pytorch: str | None) -> dict[str, Any]:
        """Returns values, comparisons and checks as JSON."""
        return {
            "pytorch": pytorch,
            "parameter_names": layout.parameter_names(self.case),
            "ways": {
                name: {
                    "loss": way.loss,
                    "predictions": way.predictions.tolist(),
                    "updated": way.updated.tolist(),
                    "tables": {table: values.tolist() for table, values in way.tables.items()},
                }
                for name, way in self.ways.items()
            },
            "agreement": self.agreement.as_json(),
            "disagreement": self.disagreement.as_json(),
            "relu": self.relu_variant.as_json(),
            "slips": self.errata.as_json(),
            "checks": [{**dataclasses.asdict(c), "holds": c.holds} for c in self.checks()],
        }


def prove(oracle: TorchReference | None = None) -> Proof:
    """Computes everything in float64, with PyTorch as another implementation if `oracle` is given."""
    with jax.enable_x64(True):
        case = read_case()
        computed = implementations.compute(case, oracle)
        return Proof(
            case=case,
            ways=computed,
            agreement=agreement.compare(case, computed),
            disagreement=disagreement.reproduce(case, oracle),
            relu_variant=relu_variant.examine(case),
            errata=errata.find(case),
        )


def verify(options: Options, oracle: TorchReference | None) -> Proof:
    """Prints the results and writes pictures if requested; raises CheckFailedError if a check fails."""
    with console.silenced() if options.as_json else contextlib.nullcontext():
        if options.plot is not None:
            picture.prepare(options.plot)
        with console.phase("compute") as phase:
            proof = prove(oracle)
            phase.text = f"{len(proof.ways)} ways"
        console.log_text("")
        if options.as_json:
            print(json.dumps(proof.as_json(oracle.version if oracle else None), indent=1))
        _show(proof, options)
        if options.plot is not None:
            written = picture.draw(proof.case, options.plot)
            console.log("saved", ", ".join(map(str, written)))
        _conclude(proof.checks())
    return proof


def _show(proof: Proof, options: Options) -> None:
    case = proof.case
    _section(
        "One step of a 3-4-4-1 tanh network, rate 0.1, sum of squared errors (report A)",
        layout.side_by_side(case, proof.ways, every_value=options.every_value),
    )
    _section(
        "Largest difference of any float64 column to the report's tables",
        layout.differences(proof.agreement),
    )
    _section(
        "Why PyTorch's page disagrees",
        layout.disagreement(proof.disagreement, case),
    )
    _section(
        "The ReLU variant: ReLU, ReLU, tanh, half the squared error (report B, its first sample)",
        layout.relu_variant(proof.relu_variant),
    )
    if options.errata:
        _section("The report's own slips, carried out", layout.errata(proof.errata))


def _section(title: str, lines: list[str]) -> None:
    console.log_text(title)
    for line in lines:
        console.log_text(line)
    console.log_text("")


def _conclude(checks: list[Check]) -> None:
    failed = [check for check in checks if not check.holds]
    if failed:
        message = "; ".join(map(str, failed))
        raise CheckFailedError(f"{len(failed)} of {len(checks)} checks failed: {message}")
    console.log_text(f"all {len(checks)} checks hold")
