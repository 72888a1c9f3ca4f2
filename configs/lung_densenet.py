"""DenseNet-121 on lung tissue, three classes. The settings are ours: no report trains it from scratch.

    python scripts/train.py --config=configs/lung_densenet.py[:VARIANT]

Variants:
    scratch   the default: LC25000, 10 epochs at 224 px; without LC25000, demo
    transfer  trains a new head on a frozen backbone
    finetune  trains the head, then the full network, with a tenth of the learning rate for the backbone
    demo      synthetic tissue, several minutes on two CPU cores
    smoke     a few steps

transfer and finetune need --config.transfer.weights=FOLDER (docs/transfer.md).
"""

from ml_collections import config_dict

from jaxnets.config import apply_variant

from . import _lung, _transfer


def get_config(variant: str = "scratch") -> config_dict.ConfigDict:
    """Returns the config of a variant: scratch, transfer, finetune, demo or smoke."""
    config = _lung.defaults("densenet121", image_size=224)
    config.train.batch_size = 32
    config.optimizer.learning_rate = 0.02
    variants = {
        "scratch": _lung.scratch,
        "transfer": _transfer_learning,
        "finetune": _lung.finetune,
        "demo": _lung.demo,
        "smoke": _lung.smoke,
    }
    return apply_variant(config, "lung_densenet", variant, variants)


def _transfer_learning(config: config_dict.ConfigDict) -> None:
    _transfer.freeze_backbone(config)
    config.entry = "B/densenet121"
    config.note = "report B gives 100 epochs and the batch; the other settings are ours"
