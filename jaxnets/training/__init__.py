"""Training: state, loss, optimizer, step, devices, loop, hooks, checkpoint."""
