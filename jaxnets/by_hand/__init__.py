"""Backpropagation written out: a network by hand, and a scalar autodiff engine."""
