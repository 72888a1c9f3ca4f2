"""What is measured against PyTorch. Torch is imported inside functions of this package, and nowhere else."""
