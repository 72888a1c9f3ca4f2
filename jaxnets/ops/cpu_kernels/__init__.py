"""Convolution, max pooling and batch norm's sums for CPUs in C++: optional, built on the user's machine.

`python scripts/build_kernels.py` compiles source/ against the headers of the installed jaxlib. Scripts call
`load.enable` once when they start, if the library is there; from then on the operations of `jaxnets.ops` take
these kernels on CPUs, in single precision. The forms in JAX give the same results to rounding.
"""
