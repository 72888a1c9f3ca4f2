"""The layers of a convolutional network and the rules that train it, forward and backward, written out.

Nothing here is differentiated by JAX: `X_backward(gradient, ...)` takes the loss's gradient by the output
of `X` and gives it by each of the inputs. Images are [B, H, W, C], kernels [kh, kw, C_in, C_out].
"""
