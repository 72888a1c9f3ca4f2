"""The implementations compared with the report's tables and with each other."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from studies.mlp_proof.case import Case, Table
from studies.mlp_proof.check import Check, max_difference
from studies.mlp_proof.implementations import BY_HAND, GRAD32, Implementation

FLOAT64_LIMIT, FLOAT32_LIMIT = 1e-12, 1e-6


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The largest difference of each implementation from a printed table."""

    table: str
    values: int
    limit: float
    differences: Mapping[str, float]

    @property
    def largest(self) -> float:
        """The largest difference of any implementation."""
        return float(np.max(list(self.differences.values())))  # propagates NaN

    def check(self) -> Check:
        """Returns the check that every implementation rounds to the printed values."""
        return Check(f"{self.table} as printed", self.largest, self.limit)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """All comparisons in float64, and the largest differences between implementations."""

    tables: tuple[Comparison, ...]
    single_sample: tuple[Comparison, ...]
    engine: tuple[Comparison, ...]
    among_float64: float
    of_float32: float

    def checks(self) -> list[Check]:
        """Returns one check per table and two for the implementations."""
        comparisons = (*self.tables, *self.single_sample, *self.engine)
        return [
            *(comparison.check() for comparison in comparisons),
            Check("float64 implementations against each other", self.among_float64, FLOAT64_LIMIT),
            Check("float32 against float64", self.of_float32, FLOAT32_LIMIT),
        ]

    def as_json(self) -> dict[str, Any]:
        """Returns a JSON-serialisable dictionary."""
        return dataclasses.asdict(self)


def compare(case: Case, implementations: Mapping[str, Implementation]) -> Agreement:
    """Compares every printed table with every float64 implementation that computes it."""
    float64 = [each for each in implementations.values() if each.name != GRAD32]
    samples = {f"{table.name} of Xs1 alone": table for table in case.single_sample}
    return Agreement(
        tables=tuple(_compare_table(table.name, table, float64, slice(None)) for table in case.tables),
        single_sample=tuple(
            _compare_table(name, table, float64, slice(1)) for name, table in samples.items()
        ),
        engine=(
            Comparison(
                "the scalar engine's 4 predictions",
                case.engine_predictions.size,
                FLOAT64_LIMIT,
                {each.name: max_difference(each.predictions, case.engine_predictions) for each in float64},
            ),
            Comparison(
                "the scalar engine's 41 parameters",
                case.engine_parameters.size,
                FLOAT64_LIMIT,
                {each.name: max_difference(each.updated, case.engine_parameters) for each in float64},
            ),
        ),
        among_float64=float(np.max([_difference(a, b) for a in float64 for b in float64])),
        of_float32=_difference_relative_to_loss(implementations[GRAD32], implementations[BY_HAND]),
    )


def _compare_table(
    name: str, table: Table, implementations: list[Implementation], samples: slice
) -> Comparison:
    computed = {
        each.name: each.tables[table.name][..., samples]
        for each in implementations
        if table.name in each.tables
    }
    differences = {name: table.difference(values) for name, values in computed.items()}
    return Comparison(name, table.values.size, table.half_unit * (1 + 1e-9), differences)


def _difference(first: Implementation, second: Implementation) -> float:
    """Returns the largest difference of all values that both compute."""
    shared = first.tables.keys() & second.tables.keys()
    tables = [max_difference(first.tables[name], second.tables[name]) for name in shared]
    return float(np.max([max_difference(first.values(), second.values()), *tables]))


def _difference_relative_to_loss(first: Implementation, second: Implementation) -> float:
    """Returns the largest of the losses' relative difference and those of predictions and parameters."""
    differences = [
        abs(first.loss / second.loss - 1),
        max_difference(first.predictions, second.predictions),
        max_difference(first.updated, second.updated),
    ]
    return float(np.max(differences))
