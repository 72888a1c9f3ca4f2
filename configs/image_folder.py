"""ResNet-50 on your own images: a folder a class, any of JPEG, PNG, TIFF and WebP, any sizes.

    python scripts/train.py --config=configs/image_folder.py --config.data.path=DIR

The classes follow the folders. `:resnet50` (the default) is for a GPU: 224 px, 30 epochs. `:quick` is for
a laptop: 64 px, 10 epochs. `:smoke` is a tiny network for a few steps.
"""

from ml_collections import config_dict

from jaxnets.config import choose, recipe


def get_config(variant: str = "resnet50") -> config_dict.ConfigDict:
    """The recipe of a variant: resnet50, quick or smoke."""
    config = recipe()
    config.model.name = "resnet50"
    config.data.name = "image_folder"
    config.augment.flip_horizontal = True
    config.train.batch_size = 32
    config.optimizer.nesterov = True
    config.optimizer.learning_rate = 0.02
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 1
    return choose(
        config, "image_folder", variant, {"resnet50": _resnet50, "quick": _quick, "smoke": _smoke}
    )


def _resnet50(config: config_dict.ConfigDict) -> None:
    config.data.image_size = 224
    config.train.epochs = 30


def _quick(config: config_dict.ConfigDict) -> None:
    config.data.image_size = 64
    config.train.epochs = 10


def _smoke(config: config_dict.ConfigDict) -> None:
    config.model.stage_sizes = (1, 1, 1, 1)
    config.model.width = 8
    config.data.image_size = 32
    config.train.batch_size = 8
    config.train.epochs = 1
