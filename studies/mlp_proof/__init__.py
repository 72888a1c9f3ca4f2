"""What scripts/verify_mlp.py proves: the reports' one step of gradient descent, computed several ways."""
