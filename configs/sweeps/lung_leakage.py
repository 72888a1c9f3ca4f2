"""How much near-duplicates raise the accuracy on LC25000: a random split beside five grouped folds.

    python scripts/reproduce.py lung_leakage --budget=150

The five folds test each of the 717 groups once. Both splits train on 60 % of the images, validate on 20 % and
test on 20 %. Frozen backbones, whose rows take minutes, come first; then networks trained from scratch for 10
epochs as in report A, the most important first. A row finishes in at most about an hour on two cores.
"""

from collections.abc import Iterator
from typing import Any

from .lung_transfer import DATA, IMAGENET_BACKBONE

FOLDS = 5
RANDOM: dict[str, Any] = {"data.split": "random", "data.fractions": (0.6, 0.2, 0.2)}
BFLOAT16 = {"model.compute_dtype": "bfloat16"}
SMALL = {"inception_v1": 75, "densenet": 75, "inception_v3": 75, "inception_resnet_v2": 75}
"""Networks after ResNet-50; 75 px is the minimum of two of them."""
SEEDS = (1, 2)
LITE = tuple(f"efficientnet_lite{size}" for size in range(3))
PRETRAINED = (*LITE, "inception_v3")
HEAD_SEEDS = (1, 2, 3, 4)
BRIEF: dict[str, Any] = {"log.every_steps": 2820, "eval.every_epochs": 10}
"""For heads, whose epochs take a quarter of a second: a record every ten epochs."""


def get_rows() -> list[dict[str, Any]]:
    """Returns the rows of each series: the random split, then the folds."""
    return [
        *(row for network in PRETRAINED for row in _frozen(network)),
        *_frozen("efficientnet_lite0", pretrained=False),
        *_from_scratch("resnet", 128, BFLOAT16),
        *(row for network, pixels in SMALL.items() for row in _from_scratch(network, pixels)),
        *(row for seed in SEEDS for row in _from_scratch("inception_v1", SMALL["inception_v1"], seed=seed)),
        *_finetuned(),
        *(row for seed in HEAD_SEEDS for network in PRETRAINED for row in _frozen(network, seed=seed)),
        *_frozen("inception_v3", pretrained=False),
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


def _frozen(network: str, *, pretrained: bool = True, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yields the rows of a new head on a frozen backbone at 224 px."""
    weights = "ImageNet's weights" if pretrained else "random weights"
    settings = {**BRIEF, "data.image_size": 224}
    if network in LITE:
        config = "configs/lung_efficientnet.py:transfer"
        settings |= {"model.name": network, "transfer.weights": f"imagenet:{network}"}
        settings["note"] = (
            f"frozen backbone with {weights}; no report trains this network, the settings are ours"
        )
    else:
        config = "configs/lung_inception_v3.py:transfer"
        settings |= {"transfer.weights": IMAGENET_BACKBONE, "transfer.pretrained_on": "ImageNet"}
        settings |= {"model.truncate_after": "mixed7a", "model.variant": "keras"}
        settings["note"] = (
            f"frozen backbone up to Mixed_7a with {weights}; report B's batch and epochs, the rest is ours"
        )
    if not pretrained:
        settings |= {"transfer.weights": "random"}
        settings.pop("transfer.pretrained_on", None)
    name = f"lung_{network}-224px-{'imagenet' if pretrained else 'random-backbone'}"
    return _series(name, config, settings, seed)


def _finetuned() -> Iterator[dict[str, Any]]:
    return _series("lung_efficientnet_lite0-224px-finetuned", "configs/lung_efficientnet.py:finetune", {}, 0)


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
