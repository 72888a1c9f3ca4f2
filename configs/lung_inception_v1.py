"""Inception v1 (GoogLeNet) on lung tissue, three classes: the network of reports A and B, the config is ours.

    python scripts/train.py --config=configs/lung_inception_v1.py

`:scratch` (the default) trains on LC25000, 10 epochs at 224 px, with both auxiliary classifiers;
`:demo` on synthetic tissue in some minutes on two cores, `:smoke` a few steps. Without LC25000 the default is
`:demo`. The dropout is torchvision's.

`:transfer` trains a new head on a frozen backbone, `:finetune` the head first and then all, the backbone at a
tenth of the rate; both need weights, by --config.transfer.weights=FOLDER (docs/transfer.md).
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
