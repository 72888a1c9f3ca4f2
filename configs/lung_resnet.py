"""ResNet-50 on lung tissue, three classes; report A's network, whose recipe is not known: this one is ours.

    python scripts/train.py --config=configs/lung_resnet.py

`:scratch` (the default) trains on LC25000, 10 epochs at 224 px as report A says, `:demo` on drawn
tissue in a few minutes on two cores, `:smoke` a few steps. Without LC25000 the default is `:demo`.
"""

from ml_collections import config_dict

from jaxnets.config.lung import lung_recipe


def get_config(variant: str = "scratch") -> config_dict.ConfigDict:
    """The recipe of a variant: scratch, demo or smoke."""
    return lung_recipe("lung_resnet", variant, model="resnet50", entry="A/resnet50", smoke=_narrow)


def _narrow(config: config_dict.ConfigDict) -> None:
    config.model.stage_sizes = (1, 1, 1, 1)
    config.model.width = 8
    config.data.image_size = 32
