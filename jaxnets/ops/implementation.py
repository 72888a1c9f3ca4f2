"""The implementation of convolutions, pooling and batch normalisation."""

from typing import Literal

from jaxnets.ops.cpu_kernels.load import Kernels, in_use

Implementation = Literal["auto", "by_shape", "xla"] | Kernels
"""auto: on CPUs the C++ kernels if they are enabled, else the forms in JAX; by_shape: on CPUs the forms in
JAX; Kernels: on CPUs these kernels; xla: XLA's own operation, with derivatives of any order and in any mode.
On other platforms all are XLA's, except for batch normalisation, whose gradient only `xla` leaves to XLA.
The config field is `model.implementation`."""


def kernels_of(implementation: Implementation) -> Kernels | None:
    """The kernels that a lowering asks for; None for a form in JAX."""
    if isinstance(implementation, Kernels):
        return implementation
    return in_use() if implementation == "auto" else None
