"""Settings shared by configs for transfer learning: feature extraction and fine-tuning."""

from collections.abc import Collection

from ml_collections import config_dict

from jaxnets.config.access import get_field
from jaxnets.config.fields import FIELDS
from jaxnets.config.unused import unused
from jaxnets.errors import ConfigError

ON_HUB = {
    "resnet50": "hub:timm/resnet50.tv_in1k",
    "inception_v3": "hub:timm/inception_v3.tv_in1k",
    "densenet121": "hub:timm/densenet121.tv_in1k",
}
"""ImageNet weights for scripts/import_weights.py by network; others need a file."""


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
    config.schedule.warmup_steps = 100


def _disable_auxiliary_heads(config: config_dict.ConfigDict) -> None:
    if "model.auxiliary_heads" not in unused(config):
        config.model.auxiliary_heads = False


def check_weights(config: config_dict.ConfigDict, overrides: Collection[str]) -> None:
    """Raises ConfigError if a config file needs pretrained weights and transfer.weights is not set.

    Fields among `overrides` are rejected later, as unused.
    """
    if config.transfer.weights is not None:
        return
    for path, field in FIELDS.items():
        is_set_by_file = path.startswith("transfer.") and path not in overrides
        if is_set_by_file and get_field(config, path) != field.default:
            source = ON_HUB.get(config.model.name, "FILE")
            folder = f"data/weights/{config.model.name}"
            raise ConfigError(
                f"{config.name} needs pretrained weights: get them with "
                f"python scripts/import_weights.py {source} {folder}, then add "
                f"--config.transfer.weights={folder}; use random for an untrained backbone"
            )
