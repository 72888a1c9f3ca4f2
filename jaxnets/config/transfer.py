"""What every recipe that begins with a trained body does: a new head on it as it is, or both together."""

from ml_collections import config_dict


def freeze_body(config: config_dict.ConfigDict) -> None:
    """Trains a new head alone, by Adam for 100 epochs, on images as they are.

    Without augmentation an image looks the same to a frozen body in every epoch, and what the body gives is
    computed once.
    """
    config.augment.flip_horizontal = False
    config.augment.flip_vertical = False
    config.augment.right_angles = False
    config.model.dropout = 0.0
    config.model.auxiliary_heads = False
    config.transfer.frozen = True
    config.train.epochs = 100
    config.train.drop_last = False
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.0
    config.checkpoint.every_epochs = 25  # each holds the body


def head_first(config: config_dict.ConfigDict) -> None:
    """Trains a new head for an epoch, then everything, the body at a tenth of the rate."""
    config.model.auxiliary_heads = False
    config.transfer.head_first_epochs = 1
    config.transfer.body_share = 0.1
    config.train.epochs = 6
    config.schedule.warmup_steps = 100
