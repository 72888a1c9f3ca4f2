"""Checks: a number that must not exceed a limit, or a condition that must hold."""

import dataclasses
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Check:
    """A difference and its limit."""

    name: str
    difference: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the difference is within the limit; False for NaN."""
        return self.difference <= self.limit

    def __str__(self) -> str:
        return f"{self.name}: {self.difference:.3g}, the limit is {self.limit:.3g}"


def condition(name: str, holds: bool) -> Check:
    """Returns a check of a condition."""
    return Check(name, 0.0 if holds else 1.0, 0.0)


def max_difference(first: Any, second: Any) -> float:
    """Returns the largest absolute difference of two arrays or trees of arrays; NaN if there is one."""
    differences = jax.tree.map(lambda a, b: np.max(np.abs(np.asarray(a) - np.asarray(b))), first, second)
    return float(np.max(jax.tree.leaves(differences)))
