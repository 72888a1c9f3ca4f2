"""Settings that the configs of the lung networks share."""

from ml_collections import config_dict

from jaxnets.config import default_config

from . import _transfer


def defaults(model: str, image_size: int, dropout: float = 0.0) -> config_dict.ConfigDict:
    """Returns settings for LC25000: grouped split, flips and rotations, SGD with Nesterov momentum."""
    config = default_config()
    config.model.name = model
    config.model.dropout = dropout
    config.data.name = "lc25000_lung"
    config.data.split = "grouped"  # the reports use --config.data.split=random, which leaks
    config.data.image_size = image_size
    config.augment.flip_horizontal = True
    config.augment.flip_vertical = True
    config.augment.right_angles = True  # tissue has no orientation
    config.train.drop_last = True  # batch statistics of a short batch are noisy
    config.optimizer.name = "sgd"
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "cosine"
    return config


def scratch(config: config_dict.ConfigDict) -> None:
    """Trains from scratch on LC25000 if it is prepared, else the variant demo; 10 epochs, as in report A."""
    config.data.name = "auto"
    config.train.epochs = 10
    config.schedule.warmup_epochs = 1
    config.note = "no report trained it so: the settings are ours"


def finetune(config: config_dict.ConfigDict) -> None:
    """Trains the head, then the full network, from pretrained weights."""
    _transfer.head_only_first(config)
    config.schedule.warmup_steps = 100
    config.note = "no report fine-tunes a whole network: the settings are ours"


def demo(config: config_dict.ConfigDict, image_size: int = 48) -> None:
    """Trains on synthetic tissue, an easy task: a few minutes on two cores."""
    config.data.name = "synthetic_tissue"
    config.data.split = "random"
    config.data.num_examples = 1500
    config.data.image_size = image_size
    config.train.batch_size = 16
    config.train.epochs = 4
    config.optimizer.learning_rate = 0.005  # at 0.02 the loss rises during warmup
    config.schedule.warmup_steps = 30
    config.note = "synthetic images: the result says nothing about real tissue"


def smoke(config: config_dict.ConfigDict, image_size: int = 48) -> None:
    """Trains a few steps on synthetic tissue."""
    demo(config, image_size)
    config.data.num_examples = 90
    config.train.epochs = 2
    config.optimizer.learning_rate = 0.02
    config.schedule.warmup_steps = 2
    config.log.every_steps = 2
