"""One step of gradient descent of the reports' MLP, computed several ways and held to what they print."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from jaxnets.errors import CheckFailedError
from jaxnets.runtime.console import Screen
from studies.mlp_proof import agreement, disagreement, layout, picture, sibling, slips, ways
from studies.mlp_proof.case import Case, read_case
from studies.mlp_proof.check import Check
from studies.mlp_proof.ways import Oracle, Way


@dataclasses.dataclass(frozen=True)
class Options:
    """What a person may choose."""

    as_json: bool = False
    every_value: bool = False
    slips: bool = False
    plot: Path | None = None


@dataclasses.dataclass(frozen=True)
class Proof:
    """All that was computed."""

    case: Case
    ways: dict[str, Way]
    agreement: agreement.Agreement
    disagreement: disagreement.Disagreement
    sibling: sibling.Sibling
    slips: slips.Slips

    def checks(self) -> list[Check]:
        """All of them, held or not."""
        return [
            *self.agreement.checks(),
            *self.disagreement.checks(),
            *self.sibling.checks(),
        ]

    def as_json(self, pytorch: str | None) -> dict[str, Any]:
        """For machines: the ways' values, what was compared, and every check."""
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
            "relu": self.sibling.as_json(),
            "slips": self.slips.as_json(),
            "checks": [{**dataclasses.asdict(c), "holds": c.holds} for c in self.checks()],
        }


def prove(oracle: Oracle | None = None) -> Proof:
    """Computes everything in doubles, with PyTorch as one more way where `oracle` is given."""
    with jax.enable_x64(True):
        case = read_case()
        computed = ways.compute(case, oracle)
        return Proof(
            case=case,
            ways=computed,
            agreement=agreement.compare(case, computed),
            disagreement=disagreement.reproduce(case, oracle),
            sibling=sibling.examine(case),
            slips=slips.find(case),
        )


def verify(options: Options, oracle: Oracle | None) -> Proof:
    """Prints the proof, writes the pictures where asked to, and raises CheckFailedError if it fails."""
    screen = Screen(quiet=options.as_json)
    if options.plot is not None:
        picture.prepare(options.plot)
    with screen.phase("compute") as phase:
        proof = prove(oracle)
        phase.text = f"{len(proof.ways)} ways"
    screen.say("")
    if options.as_json:
        print(json.dumps(proof.as_json(oracle.version if oracle else None), indent=1))
    _show(proof, options, screen)
    if options.plot is not None:
        written = picture.draw(proof.case, options.plot)
        screen.line("saved", ", ".join(map(str, written)))
    _conclude(proof.checks(), screen)
    return proof


def _show(proof: Proof, options: Options, screen: Screen) -> None:
    case = proof.case
    _section(
        screen,
        "One step of a 3-4-4-1 tanh network, rate 0.1, sum of squared errors (report A)",
        layout.side_by_side(case, proof.ways, every_value=options.every_value),
    )
    _section(
        screen,
        "Largest difference of any float64 column to the report's tables",
        layout.differences(proof.agreement),
    )
    _section(
        screen,
        "Why PyTorch's page disagrees",
        layout.disagreement(proof.disagreement, case),
    )
    _section(
        screen,
        "The ReLU sibling: ReLU, ReLU, tanh, half the squared error (report B, its first sample)",
        layout.sibling(proof.sibling),
    )
    if options.slips:
        _section(screen, "The report's own slips, carried out", layout.slips(proof.slips))


def _section(screen: Screen, title: str, lines: list[str]) -> None:
    screen.console.print(title, style="bold", markup=False)
    for line in lines:
        screen.say(line)
    screen.say("")


def _conclude(checks: list[Check], screen: Screen) -> None:
    failed = [check for check in checks if not check.holds]
    if failed:
        told = "; ".join(map(str, failed))
        raise CheckFailedError(f"{len(failed)} of {len(checks)} checks do not hold: {told}")
    screen.console.print(f"all {len(checks)} checks hold", style="green", markup=False)
