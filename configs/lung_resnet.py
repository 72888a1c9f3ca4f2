"""ResNet-50 on lung tissue, three classes; report A's network, with our settings.

    python scripts/train.py --config=configs/lung_resnet.py

`:scratch` (the default) trains on LC25000, 10 epochs at 224 px as report A says, `:demo` on drawn
tissue in a few minutes on two cores, `:smoke` a few steps. Without LC25000 the default is `:demo`.

`:transfer` trains a new head on a frozen backbone, `:finetune` the head first and then all, the backbone at a
tenth of the rate; both need weights, by --config.transfer.weights=FOLDER (docs/transfer.md).
"""

from ml_collections import config_dict

from jaxnets.config.lung import LungNetwork


def get_config(variant: str = "scratch") -> config_dict.ConfigDict:
    """Returns the config of a variant: scratch, transfer, finetune, demo or smoke."""
    return LungNetwork(
        "lung_resnet",
        model="resnet50",
        scratch_entry="A/resnet50",
        transfer_entry="B/resnet50",
        transfer_batch=64,
        smoke=_narrow,
    ).config(variant)


def _narrow(config: config_dict.ConfigDict) -> None:
    config.model.stage_sizes = (1, 1, 1, 1)
    config.model.width = 8
    config.data.image_size = 32
