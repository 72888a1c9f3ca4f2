"""ResNet-50 on your own images: one folder per class, any of JPEG, PNG, TIFF and WebP, any sizes.

    python scripts/train.py --config=configs/image_folder.py --config.data.path=DIR

The classes follow the folders. `:resnet50` (the default) is for a GPU: 224 px, 30 epochs. `:quick` is for
a laptop: 64 px, 20 epochs. `:smoke` is a tiny network for a few steps.

What to expect of `:quick`: classes that differ in colour or texture are learned from 40 to 120 pictures each
(90 to 97 % on drawn ones); for classes that differ in shape alone 40 are too few (50 % of three), and the
validation loss rises while the training loss falls. Use `:transfer` there, or more pictures. In the first
epochs on a small folder the validation loss may rise to 5: batch statistics need some 50 steps.

`:transfer` trains a new head on a frozen backbone, `:finetune` the head first and then all, the backbone at a
tenth of the rate; both at 224 px, with --config.transfer.weights=FOLDER and, where the backbone is not
ResNet-50's, --config.model.name (docs/transfer.md).
"""

from ml_collections import config_dict

from jaxnets.config import apply_variant, default_config

from ._transfer import freeze_backbone, head_only_first


def get_config(variant: str = "resnet50") -> config_dict.ConfigDict:
    """Returns the config of a variant: resnet50, quick, transfer, finetune or smoke."""
    config = default_config()
    config.model.name = "resnet50"
    config.data.name = "image_folder"
    config.augment.flip_horizontal = True
    config.train.batch_size = 32
    config.schedule.name = "cosine"
    variants = {
        "resnet50": _resnet50,
        "quick": _quick,
        "transfer": _transfer,
        "finetune": _finetune,
        "smoke": _smoke,
    }
    return apply_variant(config, "image_folder", variant, variants)


def _resnet50(config: config_dict.ConfigDict) -> None:
    config.data.image_size = 224
    config.train.epochs = 30
    _from_scratch(config)


def _quick(config: config_dict.ConfigDict) -> None:
    config.data.image_size = 64
    config.train.epochs = 20
    _from_scratch(config)


def _transfer(config: config_dict.ConfigDict) -> None:
    config.data.image_size = 224
    freeze_backbone(config)


def _finetune(config: config_dict.ConfigDict) -> None:
    config.data.image_size = 224
    _sgd(config)
    head_only_first(config)


def _smoke(config: config_dict.ConfigDict) -> None:
    config.model.stage_sizes = (1, 1, 1, 1)
    config.model.width = 8
    config.data.image_size = 32
    config.train.batch_size = 8
    _sgd(config)
    config.schedule.warmup_epochs = 1
    config.train.epochs = 1


def _from_scratch(config: config_dict.ConfigDict) -> None:
    """Small batches, for many steps an epoch; Adam at a low rate, and clipping, so that none goes astray."""
    config.train.batch_size = 16
    config.train.clip_grad_norm = 1.0
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 3e-4
    config.schedule.warmup_steps = 10


def _sgd(config: config_dict.ConfigDict) -> None:
    config.optimizer.nesterov = True
    config.optimizer.learning_rate = 0.02
    config.optimizer.weight_decay = 1e-4
