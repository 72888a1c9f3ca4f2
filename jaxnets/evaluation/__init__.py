"""Metrics, confidence intervals, result files and reports of trained networks."""
