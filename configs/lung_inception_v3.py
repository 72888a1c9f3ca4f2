"""Inception v3 on lung tissue, three classes. No report trained it from scratch: this recipe is ours.

    python scripts/train.py --config=configs/lung_inception_v3.py

`:scratch` (the default) trains on LC25000, 10 epochs at 224 px, which is too small for the auxiliary
classifier (299); `:demo` on drawn tissue in some minutes on two cores, `:smoke` a few steps. Without
LC25000 the default is `:demo`. The dropout is torchvision's.
"""

from ml_collections import config_dict

from jaxnets.config.lung import lung_recipe


def get_config(variant: str = "scratch") -> config_dict.ConfigDict:
    """The recipe of a variant: scratch, demo or smoke."""
    return lung_recipe("lung_inception_v3", variant, model="inception_v3", small=75, dropout=0.5)
