"""Inception v3 on lung tissue, three classes. No report trained it from scratch: this config is ours.

    python scripts/train.py --config=configs/lung_inception_v3.py

`:scratch` (the default) trains on LC25000, 10 epochs at 224 px, which is too small for the auxiliary
classifier (299); `:demo` on synthetic tissue in some minutes on two cores, `:smoke` a few steps. Without
LC25000 the default is `:demo`. The dropout is torchvision's.

`:transfer` trains a new head on a frozen backbone, `:finetune` the head first and then all, the backbone at a
tenth of the rate; both need weights, by --config.transfer.weights=FOLDER (docs/transfer.md).
"""

from ml_collections import config_dict

from jaxnets.config.lung import LungNetwork


def get_config(variant: str = "scratch") -> config_dict.ConfigDict:
    """Returns the config of a variant: scratch, transfer, finetune, demo or smoke."""
    return LungNetwork(
        "lung_inception_v3",
        model="inception_v3",
        transfer_entry="B/inception_v3",
        transfer_batch=64,
        small=75,
        dropout=0.5,
    ).config(variant)
