"""Report B's transfer learning on LC25000: a new head on a frozen backbone (ImageNet, CIFAR-10 or random).

    python scripts/reproduce.py lung_transfer --budget=60

The ImageNet weights of Inception v3 up to Mixed_7a are in the folder DATA/weights/inception_v3_trunk;
docs/transfer.md describes how to make it. The last rows, at 224 px, need weights of complete networks in
DATA/weights/NAME and fail without them: the page lists the commands that download them. At 139 px the output
of the backbone has 3x3 pixels. One pass over the 15,000 images takes an estimated 15 minutes or less on two
CPU cores; the head's 100 epochs took 37 to 89 s.
"""

from typing import Any

DATA = "lc25000_lung"
IMAGENET_BACKBONE = "inception_v3_trunk"
CIFAR10 = "resnet50-cifar10-64px-s0"
FETCHED = {"resnet": "resnet50", "inception_v3": "inception_v3", "densenet": "densenet121"}
"""Weights folders from ImageNet by network."""
SPLITS = ("random", "grouped")


def get_rows() -> list[dict[str, Any]]:
    """Returns the rows: Inception v3, pretraining on CIFAR-10 and transfer from it, then ImageNet weights."""
    return [
        *(_inception_v3(weights, split) for weights in (IMAGENET_BACKBONE, "random") for split in SPLITS),
        {"name": CIFAR10, "config": "configs/resnet_cifar10.py:pretraining", "seed": 0},
        *(_resnet50(weights, split) for weights in (CIFAR10, "random") for split in SPLITS),
        *(_imagenet(network, split) for network in FETCHED for split in SPLITS),
    ]


def _inception_v3(weights: str, split: str) -> dict[str, Any]:
    imagenet = weights == IMAGENET_BACKBONE
    body = "ImageNet weights of 2015, batch norm folded" if imagenet else "random weights"
    return {
        "name": f"lung_inception_v3-139px-{'imagenet' if imagenet else 'random-body'}-{split}-s0",
        "config": "configs/lung_inception_v3.py:transfer",
        "overrides": {
            "transfer.weights": weights,
            **({"transfer.pretrained_on": "ImageNet"} if imagenet else {}),
            "model.truncate_after": "mixed7a",
            "model.variant": "keras",
            "data.image_size": 139,
            "data.split": split,
            "note": f"body up to Mixed_7a ({body}), frozen, 1,280 channels where report B has 2,048; "
            "report B's head, batch and epochs; 139 px, the other settings are ours",
        },
        "seed": 0,
    }


def _imagenet(network: str, split: str) -> dict[str, Any]:
    return {
        "name": f"lung_{network}-224px-imagenet-{split}-s0",
        "config": f"configs/lung_{network}.py:transfer",
        "overrides": {
            "transfer.weights": FETCHED[network],
            "transfer.pretrained_on": "ImageNet",
            "data.image_size": 224,
            "data.split": split,
            "note": "frozen body from ImageNet; report B's batch and epochs; 224 px, the rest is ours",
        },
        "seed": 0,
    }


def _resnet50(weights: str, split: str) -> dict[str, Any]:
    trained = weights == CIFAR10
    body = "our own pretraining on CIFAR-10, not ImageNet" if trained else "random weights"
    return {
        "name": f"lung_resnet-64px-{'cifar10' if trained else 'random-body'}-{split}-s0",
        "config": "configs/lung_resnet.py:transfer",
        "overrides": {
            "transfer.weights": f"runs/{CIFAR10}" if trained else weights,
            **({"transfer.pretrained_on": "CIFAR-10"} if trained else {}),
            "data.image_size": 64,
            "data.split": split,
            "note": f"frozen body: {body}; report B's head, batch and epochs; 64 px, the rest is ours",
        },
        "seed": 0,
    }
