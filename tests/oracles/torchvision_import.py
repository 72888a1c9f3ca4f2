"""Imports torchvision with a PyTorch built without CUDA."""

import sys
from types import ModuleType

import torch

NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_torchvision() -> ModuleType:
    """Imports torchvision; call this before anything that imports it, such as timm.

    The wheel's compiled operators need CUDA's libraries, and the import fails without two of them. No
    classification network calls these, so they are only declared.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", NMS)
        import torchvision
    return torchvision
