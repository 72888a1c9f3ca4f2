"""Backpropagation without autodiff: an explicit MLP, and a scalar autodiff engine."""
