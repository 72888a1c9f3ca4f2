"""Which form of an operation a program is given."""

from typing import Literal

from jaxnets.ops.cpu_kernels.load import Kernels, in_use

Implementation = Literal["auto", "by_shape", "xla"] | Kernels
"""auto: on CPUs the C++ kernels where they are in use, else the forms in JAX; by_shape: on CPUs the forms in
JAX; Kernels: on CPUs these; reference: XLA's own operation, its derivatives of any order and in any mode.
On other platforms all are the reference, but for batch normalisation, whose gradient all others write out.
A network has its layers' lowering as a field, a recipe as `model.implementation`."""


def kernels_of(implementation: Implementation) -> Kernels | None:
    """The kernels that a lowering asks for; None for a form in JAX."""
    if isinstance(implementation, Kernels):
        return implementation
    return in_use() if implementation == "auto" else None
