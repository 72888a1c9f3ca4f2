"""Inception v1 (GoogLeNet) on lung tissue, three classes: the network of reports A and B, our settings.

    python scripts/train.py --config=configs/lung_inception_v1.py[:VARIANT]

Variants:
    scratch   the default: LC25000, 10 epochs at 224 px, with auxiliary heads; without LC25000, demo
    transfer  trains a new head on a frozen backbone
    finetune  trains the head, then the full network, with a tenth of the learning rate for the backbone
    demo      synthetic tissue, several minutes on two CPU cores
    smoke     a few steps

transfer and finetune need --config.transfer.weights=FOLDER (docs/transfer.md). The dropout rate is
torchvision's.
"""

import functools

from ml_collections import config_dict

from jaxnets.config import apply_variant

from . import _lung, _transfer


def get_config(variant: str = "scratch") -> config_dict.ConfigDict:
    """Returns the config of a variant: scratch, transfer, finetune, demo or smoke."""
    config = _lung.defaults("inception_v1", image_size=224, dropout=0.2)
    config.train.batch_size = 32
    config.optimizer.learning_rate = 0.02
    variants = {
        "scratch": _scratch,
        "transfer": _transfer_learning,
        "finetune": _lung.finetune,
        "demo": functools.partial(_lung.demo, image_size=75),
        "smoke": functools.partial(_lung.smoke, image_size=75),
    }
    return apply_variant(config, "lung_inception_v1", variant, variants)


def _scratch(config: config_dict.ConfigDict) -> None:
    _lung.scratch(config)
    config.entry = "A/inception_v1"
    config.note = "report A gives 10 epochs and 768 px originals; the other settings are ours"


def _transfer_learning(config: config_dict.ConfigDict) -> None:
    _transfer.freeze_backbone(config)
    config.note = "no report trained it so: the settings are ours"
