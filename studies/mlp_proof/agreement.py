"""The ways against the report's tables, and against each other."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from studies.mlp_proof.case import Case
from studies.mlp_proof.check import Check
from studies.mlp_proof.implementations import BY_HAND, GRAD32, Implementation

FLOAT64_LIMIT, FLOAT32_LIMIT = 1e-12, 1e-6


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A printed table against the ways that compute it: the largest difference of each, by name."""

    table: str
    values: int
    limit: float
    differences: Mapping[str, float]

    @property
    def largest(self) -> float:
        """Of all ways."""
        return float(np.max(list(self.differences.values())))  # nan too

    def check(self) -> Check:
        """That every way rounds to what is printed."""
        return Check(f"{self.table} as printed", self.largest, self.limit)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """All comparisons in doubles, of the ways among themselves, and of single precision with doubles."""

    tables: tuple[Comparison, ...]
    single_sample: tuple[Comparison, ...]
    engine: tuple[Comparison, ...]
    among_float64: float
    of_float32: float

    def checks(self) -> list[Check]:
        """One for each table, and two for the ways."""
        compared = (*self.tables, *self.single_sample, *self.engine)
        return [
            *(comparison.check() for comparison in compared),
            Check("float64 ways against each other", self.among_float64, FLOAT64_LIMIT),
            Check("float32 against float64", self.of_float32, FLOAT32_LIMIT),
        ]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return dataclasses.asdict(self)


def compare(case: Case, ways: Mapping[str, Implementation]) -> Agreement:
    """Every printed table with every way in doubles that computes it."""
    doubles = [way for way in ways.values() if way.name != GRAD32]
    engine = {
        "the scalar engine's 4 predictions": (case.engine_predictions, lambda way: way.predictions),
        "the scalar engine's 41 parameters": (case.engine_parameters, lambda way: way.updated),
    }

    def comparison(table: Any, name: str, first: slice) -> Comparison:
        computing = [way for way in doubles if table.name in way.tables]
        differences = {w.name: table.difference(w.tables[table.name][..., first]) for w in computing}
        limit = table.half_unit * (1 + 1e-9)  # what is printed is no exact double
        return Comparison(name, table.values.size, limit, differences)

    return Agreement(
        tables=tuple(comparison(t, t.name, slice(None)) for t in case.tables),
        single_sample=tuple(comparison(t, f"{t.name} of Xs1 alone", slice(1)) for t in case.single_sample),
        engine=tuple(
            Comparison(
                name,
                printed.size,
                FLOAT64_LIMIT,
                {way.name: _largest(of(way) - printed) for way in doubles},
            )
            for name, (printed, of) in engine.items()
        ),
        among_float64=float(np.max([_distance(one, other) for one in doubles for other in doubles])),
        of_float32=_relative_to_loss(ways[GRAD32], ways[BY_HAND]),
    )


def _distance(one: Implementation, other: Implementation) -> float:
    """The largest difference in anything that both compute."""
    shared = one.tables.keys() & other.tables.keys()
    tables = [_largest(one.tables[name] - other.tables[name]) for name in shared]
    return float(np.max([_largest(one.values() - other.values()), *tables]))


def _relative_to_loss(one: Implementation, other: Implementation) -> float:
    """The largest difference of losses, as a share of them, predictions and parameters."""
    differences = [
        abs(one.loss / other.loss - 1),
        _largest(one.predictions - other.predictions),
        _largest(one.updated - other.updated),
    ]
    return float(np.max(differences))


def _largest(differences: np.ndarray) -> float:
    return float(np.max(np.abs(differences)))
