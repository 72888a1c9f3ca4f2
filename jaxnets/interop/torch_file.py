"""Reads PyTorch state dicts (.pth, .pt) with torch.load(weights_only=True), if PyTorch is installed."""

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.errors import CheckpointError, ConfigError

INNER = ("state_dict", "model_state_dict", "model")
"""What training scripts wrap a state dict in."""


def read_pth(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.pth` or `.pt` state dict, by name, through torch.load(weights_only=True).

    Raises ConfigError without PyTorch, CheckpointError where the file is damaged, holds anything but
    tensors, or would run code.
    """
    if importlib.util.find_spec("torch") is None:
        raise ConfigError(
            f"{path} is a PyTorch file, and PyTorch is not installed: pip install torch, or save the weights "
            "as safetensors"
        )
    import pickle

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of other protocols of pickle: they are refused or read
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights only" in str(error).lower().replace("_", " "):
            raise CheckpointError(
                f"{path} holds more than weights, which might run code: it is not read; "
                "save model.state_dict() alone"
            ) from error
        raise CheckpointError(f"{path} is no whole PyTorch file") from error
    except (KeyError, AttributeError) as error:  # their texts are of a pickle's inside
        raise CheckpointError(f"{path} is no whole PyTorch file") from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        message = " ".join(str(error).split("\n")[0].split())[:200]
        raise CheckpointError(f"{path} is no whole PyTorch file: {message}") from error
    return _arrays(path, loaded)


def _arrays(path: Path, loaded: Any) -> dict[str, np.ndarray]:
    import torch

    for name in INNER:
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
    if not isinstance(loaded, dict) or not all(
        isinstance(value, torch.Tensor) for value in loaded.values()
    ):
        raise CheckpointError(f"{path} is no state dict: it holds other things than tensors")
    return {str(name): _array(path, str(name), tensor) for name, tensor in loaded.items()}


def _array(path: Path, name: str, tensor: Any) -> np.ndarray:
    import torch

    try:
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
    except (
        TypeError,
        RuntimeError,
        NotImplementedError,
    ) as error:  # float8, quantized, sparse, meta
        kind = str(tensor.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{path}: {name} is a tensor that is not read ({tensor.layout}, {kind}): "
            "save the weights again as dense float32"
        ) from error
