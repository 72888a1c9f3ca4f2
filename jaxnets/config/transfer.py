"""What every recipe that begins with a trained body does: a new head on it as it is, or both together."""

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
"""Where scripts/import_weights.py finds ImageNet's weights, by network; for others it takes a file."""


def freeze_backbone(config: config_dict.ConfigDict) -> None:
    """Trains a new head alone, by Adam for 100 epochs, on images as they are.

    Without augmentation an image looks the same to a frozen body in every epoch, and what the body gives is
    computed once.
    """
    config.augment.flip_horizontal = False
    config.augment.flip_vertical = False
    config.augment.right_angles = False
    config.model.dropout = 0.0
    _leave_out_auxiliary_heads(config)
    config.transfer.freeze_backbone = True
    config.train.epochs = 100
    config.train.drop_last = False
    config.optimizer.name = "adam"
    config.optimizer.nesterov = False
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.0
    config.checkpoint.every_epochs = 25  # each holds the body


def head_only_first(config: config_dict.ConfigDict) -> None:
    """Trains a new head for an epoch, then everything, the body at a tenth of the rate."""
    _leave_out_auxiliary_heads(config)
    config.transfer.head_only_epochs = 1
    config.transfer.backbone_lr_multiplier = 0.1
    config.train.epochs = 6
    config.schedule.warmup_steps = 100


def _leave_out_auxiliary_heads(config: config_dict.ConfigDict) -> None:
    if "model.auxiliary_heads" not in unused(config):
        config.model.auxiliary_heads = False


def require_weights(config: config_dict.ConfigDict, overrides: Collection[str]) -> None:
    """Raises ConfigError where a config file is about trained weights and none are given.

    What is among `overrides` itself is refused as a field that is not used.
    """
    if config.transfer.weights is not None:
        return
    for path, field in FIELDS.items():
        about_weights = path.startswith("transfer.") and path not in overrides
        if about_weights and get_field(config, path) != field.default:
            source = ON_HUB.get(config.model.name, "FILE")
            folder = f"data/weights/{config.model.name}"
            raise ConfigError(
                f"{config.name} begins with trained weights, and none are given: get some with "
                f"python scripts/import_weights.py {source} {folder}, then add "
                f"--config.transfer.weights={folder}; random is a body that was never trained"
            )
