"""DenseNet-121 on lung tissue, three classes. No report trained it from scratch: this config is ours.

    python scripts/train.py --config=configs/lung_densenet.py

`:scratch` (the default) trains on LC25000, 10 epochs at 224 px, `:demo` on synthetic tissue in some
minutes on two cores, `:smoke` a few steps. Without LC25000 the default is `:demo`.

`:transfer` trains a new head on a frozen backbone, `:finetune` the head first and then all, the backbone at a
tenth of the rate; both need weights, by --config.transfer.weights=FOLDER (docs/transfer.md).
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
