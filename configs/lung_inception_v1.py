"""Inception v1 (GoogLeNet) on lung tissue, three classes: the network of reports A and B, the recipe ours.

    python scripts/train.py --config=configs/lung_inception_v1.py

`:scratch` (the default) trains on LC25000, 10 epochs at 224 px, with both auxiliary classifiers;
`:demo` on drawn tissue in some minutes on two cores, `:smoke` a few steps. Without LC25000 the default is
`:demo`. The dropout is torchvision's.
"""

from ml_collections import config_dict

from jaxnets.config.lung import lung_recipe


def get_config(variant: str = "scratch") -> config_dict.ConfigDict:
    """The recipe of a variant: scratch, demo or smoke."""
    return lung_recipe(
        "lung_inception_v1",
        variant,
        model="inception_v1",
        entry="A/inception_v1",
        small=75,
        dropout=0.2,
    )
