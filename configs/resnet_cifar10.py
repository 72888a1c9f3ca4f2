"""ResNet-50 on CIFAR-10, a body of our own to transfer where ImageNet's weights cannot be had.

    python scripts/train.py --config=configs/resnet_cifar10.py

`:pretraining` (the default) is five epochs at 32 px, which a CPU holds in the better part of an hour; the
network halves such an image to one pixel, so that its accuracy is no measure of ResNet-50. `:smoke` is a
tiny network for a few steps on drawn tissue.
"""

from ml_collections import config_dict

from jaxnets.config import choose, recipe


def get_config(variant: str = "pretraining") -> config_dict.ConfigDict:
    """The recipe of a variant: pretraining or smoke."""
    config = recipe()
    config.model.name = "resnet50"
    config.data.image_size = 32
    config.augment.flip_horizontal = True
    config.augment.crop_padding = 4
    config.train.drop_last = True  # batch statistics of a short batch are poor
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "cosine"
    variants = {"pretraining": _pretraining, "smoke": _smoke}
    return choose(config, "resnet_cifar10", variant, variants)


def _pretraining(config: config_dict.ConfigDict) -> None:
    config.note = "a body for transfer: five epochs at 32 px"
    config.data.name = "cifar10"
    config.data.split = "official"
    config.data.validation_fraction = 0.1
    config.train.batch_size = 64
    config.train.epochs = 5
    config.optimizer.learning_rate = 0.05
    config.schedule.warmup_steps = 300


def _smoke(config: config_dict.ConfigDict) -> None:
    config.data.name = "synthetic_tissue"
    config.data.num_examples = 90
    config.model.stage_sizes = (1, 1, 1, 1)
    config.model.width = 8
    config.train.batch_size = 16
    config.train.epochs = 1
    config.optimizer.learning_rate = 0.02
