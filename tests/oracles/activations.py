"""Records the outputs of every layer of a PyTorch network, for scripts/compare_activations.py."""

import numpy as np
import torch


def record(network: torch.nn.Module, images: torch.Tensor) -> dict[str, np.ndarray]:
    """Returns the outputs by module name, and "inputs", for images [B, C, H, W] in inference."""
    found = {"inputs": images.numpy()}
    kinds = (torch.nn.Conv2d, torch.nn.Linear, torch.nn.BatchNorm2d)

    def save(name: str, values: torch.Tensor) -> None:
        found[name] = values.detach().numpy().copy()

    callbacks = [
        module.register_forward_hook(lambda _, __, values, name=name: save(name, values))
        for name, module in network.named_modules()
        if isinstance(module, kinds)
    ]
    with torch.no_grad():
        network.eval()(images)
    for callback in callbacks:
        callback.remove()
    return found
