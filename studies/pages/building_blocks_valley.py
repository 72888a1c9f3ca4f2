"""Walks down a narrow valley, (x^2 + 100 y^2) / 2, along the axes or turned by 45 degrees."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from studies.by_hand.blocks import adam, descent

STEEPNESS, BEGINNING = 100.0, (-8.0, 1.0)
LOW, LONGEST = 0.01, 2000
"""A walk has converged if it is this low after at most `LONGEST` steps."""
BEST_FIXED_RATE = 2 / (1 + STEEPNESS)  # of plain gradient descent on this valley
RATES = {
    "SGD": (0.005, 0.01, round(BEST_FIXED_RATE, 4), 0.021),
    "momentum": (0.001, 0.01, 0.03),
    "Adam": (0.1, 0.3, 1.0, 3.0),
}
SHOWN = {"SGD": round(BEST_FIXED_RATE, 4), "momentum": 0.01, "Adam": 0.3}
"""Learning rates of the walks in the picture."""


def valley(*, turned: bool) -> np.ndarray:
    """Returns the matrix A of the valley x A x / 2, [2, 2]."""
    turn = _turn(turned=turned)
    return turn @ np.diag([1.0, STEEPNESS]) @ turn.T


def walk(rule: str, rate: float, *, turned: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the points of a walk, [LONGEST + 1, 2], and their heights."""
    matrix = valley(turned=turned)
    places = np.asarray(_places(rule, rate, matrix, _turn(turned=turned) @ np.array(BEGINNING)))
    with np.errstate(over="ignore", invalid="ignore"):  # a walk may diverge
        return places, np.einsum("ti,ij,tj->t", places, matrix, places) / 2


class Arrival(NamedTuple):
    """The first step at which a walk is low, and the step from which on it stays low."""

    first: int
    stays: int


def arrival(rule: str, rate: float, *, turned: bool) -> Arrival | None:
    """Returns when a walk converges; None if it does not."""
    low = walk(rule, rate, turned=turned)[1] < LOW
    if not low[-1]:
        return None
    return Arrival(int(low.argmax()), int(np.append(-1, np.flatnonzero(~low))[-1]) + 1)


@functools.partial(jax.jit, static_argnums=0)
def _places(rule: str, rate: jax.Array, matrix: jax.Array, beginning: jax.Array) -> jax.Array:
    def step(carried, _):
        place, memory = carried
        gradient = matrix @ place
        if rule == "Adam":
            place, memory = adam.adam(place, gradient, memory, learning_rate=rate)
        elif rule == "momentum":
            place, memory = descent.momentum(place, gradient, memory, learning_rate=rate)
        else:
            place = descent.sgd(place, gradient, learning_rate=rate)
        return (place, memory), place

    memory = adam.init(beginning) if rule == "Adam" else jnp.zeros_like(beginning)
    _, places = lax.scan(step, (beginning, memory), length=LONGEST)
    return jnp.concatenate([beginning[None], places])


def _turn(*, turned: bool) -> np.ndarray:
    angle = np.pi / 4 if turned else 0.0
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
