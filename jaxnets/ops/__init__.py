"""Convolution, pooling and normalisation: pure functions, and the Linen layers on them.

Images are [B, H, W, C], kernels [kh, kw, C_in, C_out]. Each function has one reference form, on `jax.lax`,
and where it was measured faster a form for CPUs, picked when a program is compiled for its platform.
"""

from jaxnets.ops.convolution import convolution
from jaxnets.ops.initializers import INITIALIZERS, Initialization, kaiming_normal_fan_out
from jaxnets.ops.layers import Conv, Dense
from jaxnets.ops.normalization import BatchNorm
from jaxnets.ops.pooling import average_pool, global_average_pool, global_max_pool, max_pool

__all__ = [
    "INITIALIZERS",
    "BatchNorm",
    "Conv",
    "Dense",
    "Initialization",
    "average_pool",
    "convolution",
    "global_average_pool",
    "global_max_pool",
    "kaiming_normal_fan_out",
    "max_pool",
]
