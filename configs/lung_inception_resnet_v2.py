"""Inception-ResNet v2 on lung tissue, three classes; report A's network, the recipe ours.

    python scripts/train.py --config=configs/lung_inception_resnet_v2.py

`:scratch` (the default) trains on LC25000, 10 epochs at 224 px, `:demo` on drawn tissue in some ten
minutes on two cores, `:smoke` a few steps. Without LC25000 the default is `:demo`. The dropout is the
paper's.
"""

from ml_collections import config_dict

from jaxnets.config.lung import lung_recipe


def get_config(variant: str = "scratch") -> config_dict.ConfigDict:
    """The recipe of a variant: scratch, demo or smoke."""
    return lung_recipe(
        "lung_inception_resnet_v2",
        variant,
        model="inception_resnet_v2",
        entry="A/inception_resnet_v2",
        small=75,
        dropout=0.2,
    )
