"""Training: state, loss, optimizer, step, devices, loop, callbacks, checkpoint."""
