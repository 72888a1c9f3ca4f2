"""DenseNet-121 on lung tissue, three classes. No report trained it from scratch: this recipe is ours.

    python scripts/train.py --config=configs/lung_densenet.py

`:scratch` (the default) trains on LC25000, 10 epochs at 224 px, `:demo` on drawn tissue in some
minutes on two cores, `:smoke` a few steps. Without LC25000 the default is `:demo`.
"""

from ml_collections import config_dict

from jaxnets.config.lung import lung_recipe


def get_config(variant: str = "scratch") -> config_dict.ConfigDict:
    """The recipe of a variant: scratch, demo or smoke."""
    return lung_recipe("lung_densenet", variant, model="densenet121")
