"""Reads PyTorch state dicts (.pth, .pt) with torch.load(weights_only=True), if PyTorch is installed."""

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.errors import CheckpointError, ConfigError

INNER = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store a state dict."""


def read_pth(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a `.pth` or `.pt` state dict by name.

    Raises ConfigError if PyTorch is not installed, CheckpointError if the file is damaged, contains
    anything but tensors, or would run code.
    """
    if importlib.util.find_spec("torch") is None:
        raise ConfigError(
            f"{path} is a PyTorch file, and PyTorch is not installed: pip install torch, or save the weights "
            "as safetensors"
        )
    import pickle

    import torch

    damaged = f"{path} is not a valid PyTorch file"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other pickle protocols; torch reads or rejects them
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights only" in str(error).lower().replace("_", " "):
            raise CheckpointError(
                f"{path} holds more than weights, which might run code: it is not read; "
                "save only model.state_dict()"
            ) from error
        raise CheckpointError(damaged) from error
    except (KeyError, AttributeError) as error:  # their messages only mention pickle internals
        raise CheckpointError(damaged) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        message = " ".join(str(error).split("\n")[0].split())[:200]
        raise CheckpointError(f"{damaged}: {message}") from error
    for name in INNER:
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path} is not a state dict: it contains more than tensors")
    return {str(name): _array(path, str(name), tensor) for name, tensor in loaded.items()}


def _array(path: Path, name: str, tensor: Any) -> np.ndarray:
    import torch

    try:
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        # float8, quantized, sparse and meta tensors
        kind = str(tensor.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{path}: cannot read tensor {name} ({tensor.layout}, {kind}): "
            "save the weights again as dense float32"
        ) from error
