"""Layers of a convolutional network and optimizers, with explicit backward passes.

JAX differentiates nothing here: `f_backward(gradient, ...)` takes the gradient with respect to the output of
`f` and returns those with respect to its inputs. Images are [B, H, W, C], kernels [kh, kw, C_in, C_out].
"""
