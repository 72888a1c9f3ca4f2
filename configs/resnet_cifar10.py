"""ResNet-50 on CIFAR-10, for transfer learning without ImageNet weights.

    python scripts/train.py --config=configs/resnet_cifar10.py[:VARIANT]

Variants:
    pretraining  the default: three epochs on images enlarged to 64 px, 55 minutes on two CPU cores; at 32 px
                 the last stage would have a single pixel (docs/transfer.md)
    smoke        a tiny network, a few steps on synthetic tissue
"""

from ml_collections import config_dict

from jaxnets.config import apply_variant, default_config


def get_config(variant: str = "pretraining") -> config_dict.ConfigDict:
    """Returns the config of a variant: pretraining or smoke."""
    config = default_config()
    config.model.name = "resnet50"
    config.augment.flip_horizontal = True
    config.train.drop_last = True  # batch statistics of a short batch are noisy
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "cosine"
    variants = {"pretraining": _pretraining, "smoke": _smoke}
    return apply_variant(config, "resnet_cifar10", variant, variants)


def _pretraining(config: config_dict.ConfigDict) -> None:
    config.note = "a backbone for transfer learning: three epochs at 64 px"
    config.data.image_size = 64
    config.augment.crop_padding = 8
    config.data.name = "cifar10"
    config.data.split = "official"
    config.data.validation_fraction = 0.1
    config.train.batch_size = 64
    config.train.epochs = 3
    config.optimizer.learning_rate = 0.05
    config.schedule.warmup_steps = 300


def _smoke(config: config_dict.ConfigDict) -> None:
    config.data.name = "synthetic_tissue"
    config.data.num_examples = 90
    config.data.image_size = 32
    config.augment.crop_padding = 4
    config.model.stage_sizes = (1, 1, 1, 1)
    config.model.width = 8
    config.train.batch_size = 16
    config.train.epochs = 1
    config.optimizer.learning_rate = 0.02
