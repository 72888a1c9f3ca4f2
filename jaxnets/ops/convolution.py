"""Two-dimensional convolution (cross-correlation, as PyTorch's), forward and gradients."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.ops.cpu import convolution as cpu
from jaxnets.ops.cpu_kernels.load import Implementation, kernels_of
from jaxnets.ops.windows import Padding, Pair, Windows, apply_negative_padding


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    implementation: Implementation = "auto",
) -> jax.Array:
    """Correlates `x` [B, H, W, C_in] with `kernel` [kh, kw, C_in, C_out], giving [B, H', W', C_out].

    H' = (H + top + bottom - kh) // stride + 1, as torch.nn.functional.conv2d. Forms for CPUs have gradients
    of any order, forward over reverse among them; forward mode of the convolution itself (`jvp`) is refused
    by JAX and needs `implementation="xla"`. bfloat16 takes the reference everywhere. Negative padding cuts.
    Raises ValueError where the channels of `x` and `kernel` differ.
    """
    if x.shape[3] != kernel.shape[2]:
        raise ValueError(f"{x.shape[3]} channels do not fit a kernel for {kernel.shape[2]}")
    x, padding = apply_negative_padding(x, padding, 0)
    windows = Windows(x.shape[1:3], kernel.shape[:2], strides, padding)
    reference = functools.partial(cpu.reference, windows=windows)
    empty = 0 in x.shape or 0 in kernel.shape or min(windows.output_size) < 1
    if implementation == "xla" or x.dtype == jnp.bfloat16 or empty:
        return reference(x, kernel)
    is_single = x.dtype == kernel.dtype == jnp.float32
    kernels = kernels_of(implementation) if is_single and kernel.shape[1] <= cpu.WIDEST else None
    # The choice of a platform is outside the custom gradient: so forward mode reaches gradients.
    for_cpu = functools.partial(cpu.convolution, windows=windows, kernels=kernels)
    return lax.platform_dependent(x, kernel, cpu=for_cpu, default=reference)
