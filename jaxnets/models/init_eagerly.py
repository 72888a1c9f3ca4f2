"""A function computed one equation after another, those alone that its result needs."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun


def init_eqn_by_eqn(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `jax.jit(function)(*arguments)` gives, without one program of it all.

    XLA's time grows with a program, and a network's initial weights make a very long one; equations of one
    shape are compiled once. A `jax.jit` inside the function is one equation, and rounds as it does within
    a larger program. May be traced itself.
    """
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    needed = traced.jaxpr.replace(eqns=_needed(traced.jaxpr))
    leaves = jaxpr_as_fun(ClosedJaxpr(needed, traced.consts))(*jax.tree.leaves(arguments))
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _needed(jaxpr: Jaxpr) -> list[Any]:
    """The equations that the outputs depend on, in their order."""
    wanted = {variable for variable in jaxpr.outvars if not isinstance(variable, Literal)}
    needed = []
    for equation in reversed(jaxpr.eqns):
        if wanted.intersection(equation.outvars):
            needed.append(equation)
            wanted.update(v for v in equation.invars if not isinstance(v, Literal))
    return needed[::-1]
