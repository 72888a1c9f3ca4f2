"""Checks one gradient descent step of the reports' MLP, by several implementations."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from jaxnets.errors import CheckFailedError
from jaxnets.runtime import console
from studies.mlp_proof import agreement, disagreement, errata, implementations, layout, picture, relu_variant
from studies.mlp_proof.case import Case, read_case
from studies.mlp_proof.check import Check
from studies.mlp_proof.implementations import Implementation, TorchReference


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the command."""

    as_json: bool = False
    every_value: bool = False
    errata: bool = False
    plot: Path | None = None


@dataclasses.dataclass(frozen=True)
class Proof:
    """The results of all implementations and comparisons."""

    case: Case
    results: dict[str, Implementation]
    agreement: agreement.Agreement
    disagreement: disagreement.Disagreement
    relu_variant: relu_variant.ReluVariant
    errata: errata.Errata

    def checks(self) -> list[Check]:
        """Returns all checks."""
        return [*self.agreement.checks(), *self.disagreement.checks(), *self.relu_variant.checks()]

    def as_json(self, pytorch: str | None) -> dict[str, Any]:
        """Returns a JSON-serialisable dictionary."""
        return {
            "pytorch": pytorch,
            "parameter_names": layout.parameter_names(self.case),
            "ways": {
                name: {
                    "loss": result.loss,
                    "predictions": result.predictions.tolist(),
                    "updated": result.updated.tolist(),
                    "tables": {table: values.tolist() for table, values in result.tables.items()},
                }
                for name, result in self.results.items()
            },
            "agreement": self.agreement.as_json(),
            "disagreement": self.disagreement.as_json(),
            "relu": self.relu_variant.as_json(),
            "slips": self.errata.as_json(),
            "checks": [{**dataclasses.asdict(c), "holds": c.holds} for c in self.checks()],
        }


def prove(oracle: TorchReference | None = None) -> Proof:
    """Runs all implementations in float64, including PyTorch if `oracle` is given."""
    with jax.enable_x64(True):
        case = read_case()
        results = implementations.compute(case, oracle)
        return Proof(
            case=case,
            results=results,
            agreement=agreement.compare(case, results),
            disagreement=disagreement.reproduce(case, oracle),
            relu_variant=relu_variant.examine(case),
            errata=errata.find(case),
        )


def verify(options: Options, oracle: TorchReference | None) -> Proof:
    """Prints the proof, writes the figures if requested, and raises CheckFailedError if a check fails."""
    with console.silenced() if options.as_json else contextlib.nullcontext():
        if options.plot is not None:
            picture.prepare(options.plot)
        with console.phase("compute") as phase:
            proof = prove(oracle)
            phase.text = f"{len(proof.results)} implementations"
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
        layout.values(case, proof.results, every_value=options.every_value),
    )
    _section(
        "Largest difference of any float64 column to the report's tables", layout.differences(proof.agreement)
    )
    _section("Why PyTorch's page disagrees", layout.disagreement(proof.disagreement, case))
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
