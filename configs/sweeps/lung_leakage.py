"""What near-duplicates are worth on LC25000: a random split beside five grouped folds, by network.

    python scripts/reproduce.py lung_leakage --budget=150

The five folds test each of the 717 groups once. Both splits train on 60 % of the images, validate on 20 % and
test on 20 %. Frozen backbones, whose rows take minutes, come first; then networks trained from scratch for 10
epochs as in report A, the most important first. A row finishes in at most about an hour on two cores.
"""

from collections.abc import Iterator
from typing import Any

from .lung_efficientnet import IMAGENET
from .lung_transfer import DATA

FOLDS = 5
RANDOM: dict[str, Any] = {"data.split": "random", "data.fractions": (0.6, 0.2, 0.2)}
BFLOAT16 = {"model.compute_dtype": "bfloat16"}
SMALL = {"inception_v1": 75, "densenet": 75, "inception_v3": 75, "inception_resnet_v2": 75}
"""Networks after ResNet-50; 75 px is the minimum of two of them."""
SEEDS = (1, 2)


def get_rows() -> list[dict[str, Any]]:
    """Returns the rows of each series: the random split, then the folds."""
    return [
        *_frozen(IMAGENET),
        *_from_scratch("resnet", 128, BFLOAT16),
        *_frozen("random"),
        *(row for network, pixels in SMALL.items() for row in _from_scratch(network, pixels)),
        *(row for seed in SEEDS for row in _from_scratch("inception_v1", SMALL["inception_v1"], seed=seed)),
        *_from_scratch("resnet", 128, BFLOAT16, seed=1),
    ]


def _from_scratch(
    network: str, pixels: int, overrides: dict[str, Any] | None = None, seed: int = 0
) -> Iterator[dict[str, Any]]:
    precision = "-bfloat16" if overrides == BFLOAT16 else ""
    settings = {"data.image_size": pixels, "train.epochs": 10, **(overrides or {})}
    note = f"{pixels} px for want of a GPU; 10 epochs are report A's, the other settings are ours"
    name = f"lung_{network}-{pixels}px-10epochs{precision}"
    return _series(name, f"configs/lung_{network}.py:scratch", {**settings, "note": note}, seed)


def _frozen(weights: str) -> Iterator[dict[str, Any]]:
    pretrained = "ImageNet" if weights == IMAGENET else "random weights"
    name = f"lung_efficientnet-224px-{'imagenet' if weights == IMAGENET else 'random-backbone'}"
    config = "configs/lung_efficientnet.py:transfer"
    note = f"frozen backbone: {pretrained}; no report trains this network, the settings are ours"
    return _series(name, config, {"transfer.weights": weights, "note": note}, 0)


def _series(name: str, config: str, overrides: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """Yields the rows of one config and seed."""
    shared = {"data.name": DATA, **overrides}
    yield {
        "name": f"{name}-random60-s{seed}",
        "config": config,
        "overrides": {**shared, **RANDOM},
        "seed": seed,
    }
    for fold in range(FOLDS):
        yield {
            "name": f"{name}-fold{fold}of{FOLDS}-s{seed}",
            "config": config,
            "overrides": {**shared, "data.split": "grouped", "data.folds": FOLDS, "data.fold": fold},
            "seed": seed,
        }
