"""One gradient descent step of the reports' MLP, by several implementations, for scripts/verify_mlp.py."""
