"""ResNet-50 on lung tissue, three classes: the network of report A with our settings.

    python scripts/train.py --config=configs/lung_resnet.py[:VARIANT]

Variants:
    scratch   the default: LC25000, 10 epochs at 224 px; without LC25000, demo
    transfer  trains a new head on a frozen backbone
    finetune  trains the head, then the full network, with a tenth of the learning rate for the backbone
    demo      synthetic tissue, a few minutes on two CPU cores
    smoke     a few steps

transfer and finetune need --config.transfer.weights=FOLDER (docs/transfer.md).
"""

from ml_collections import config_dict

from jaxnets.config import apply_variant

from . import _lung, _transfer


def get_config(variant: str = "scratch") -> config_dict.ConfigDict:
    """Returns the config of a variant: scratch, transfer, finetune, demo or smoke."""
    config = _lung.defaults("resnet50", image_size=224)
    config.train.batch_size = 32
    config.optimizer.learning_rate = 0.02
    variants = {
        "scratch": _scratch,
        "transfer": _transfer_learning,
        "finetune": _lung.finetune,
        "demo": _lung.demo,
        "smoke": _smoke,
    }
    return apply_variant(config, "lung_resnet", variant, variants)


def _scratch(config: config_dict.ConfigDict) -> None:
    _lung.scratch(config)
    config.entry = "A/resnet50"
    config.note = "report A gives 10 epochs and 768 px originals; the other settings are ours"


def _transfer_learning(config: config_dict.ConfigDict) -> None:
    _transfer.freeze_backbone(config)
    config.train.batch_size = 64
    config.entry = "B/resnet50"
    config.note = "report B gives 100 epochs and the batch; the other settings are ours"


def _smoke(config: config_dict.ConfigDict) -> None:
    _lung.smoke(config, image_size=32)
    config.model.stage_sizes = (1, 1, 1, 1)
    config.model.width = 8
