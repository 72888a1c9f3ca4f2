"""AlexNet on CIFAR-10, as in two reports: 10 epochs, batch size 64, flips and padded crops, dropout.

    python scripts/prepare_data.py cifar10
    python scripts/train.py --config=configs/alexnet_cifar10.py[:VARIANT]

Variants:
    adam   the default: report C's settings and network
    sgd    report E's settings and network
    best   our settings: report E's network, more augmentation, mixup, averaged weights, 200 epochs
    best30 the same with 30 epochs
    smoke  a few steps

Both reports augment their test images too, and report E tests with dropout active: in result.json, the tests
"augmented" and "augmented_dropout" are theirs, "clean" is ours. Report C tests on augmented images after
every epoch; so does adam, for the curve.

best aims at 91 % or more on clean test images, but has not been trained to the end, which needs a GPU: ten
million images of 1.3 GFLOP (forward and backward) are 13 PFLOP, or 45 minutes at 5 TFLOP/s, or 14 hours at
the 200 images/s of two CPU cores.
"""

from ml_collections import config_dict

from jaxnets.config import apply_variant, default_config


def get_config(variant: str = "adam") -> config_dict.ConfigDict:
    """Returns the config of a variant: adam, sgd, best, best30 or smoke."""
    config = default_config()
    config.model.name = "alexnet"
    config.model.dropout = 0.5
    config.data.name = "cifar10"
    config.data.image_size = 32
    config.data.split = "official"
    config.data.mean = (0.5, 0.5, 0.5)
    config.data.std = (0.5, 0.5, 0.5)
    config.augment.flip_horizontal = True
    config.augment.crop_padding = 4
    config.train.batch_size = 64
    config.train.epochs = 10
    config.eval.batch_size = 200
    config.eval.augment = True
    variants = {"adam": _adam, "sgd": _sgd, "best": _best, "best30": _best30, "smoke": _smoke}
    return apply_variant(config, "alexnet_cifar10", variant, variants)


def _adam(config: config_dict.ConfigDict) -> None:
    config.entry = "C/alexnet"
    config.model.variant = "pool3"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.001
    config.eval.monitor_test = True
    config.log.every_steps = 46  # 17 lines an epoch of 782 steps: the report logs only epochs


def _sgd(config: config_dict.ConfigDict) -> None:
    config.entry = "E/alexnet"
    config.model.variant = "pool2"
    config.optimizer.learning_rate = 0.01
    config.optimizer.weight_decay = 1e-4
    config.eval.dropout = True
    config.log.every_steps = 100  # as in the report, which restarts its windows in every epoch


def _best(config: config_dict.ConfigDict) -> None:
    config.model.variant = "pool2"
    config.model.init = "flax"  # variance 1 / fan-in, three times PyTorch's: no plateau at ln 10
    config.augment.brightness = 0.2
    config.augment.contrast = 0.2
    config.augment.saturation = 0.2
    config.augment.mixup = 0.2
    config.train.batch_size = 128
    config.train.epochs = 200
    config.train.clip_grad_norm = 5.0
    config.train.ema_decay = 0.9995
    config.optimizer.nesterov = True
    config.optimizer.learning_rate = 0.02
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 2
    config.eval.augment = False
    config.checkpoint.every_epochs = 5
    config.log.every_steps = 391


def _best30(config: config_dict.ConfigDict) -> None:
    _best(config)
    config.train.epochs = 30


def _smoke(config: config_dict.ConfigDict) -> None:
    _sgd(config)
    config.entry = None
    config.eval.augment = False
    config.eval.dropout = False
    config.train.epochs = None
    config.train.steps = 4
    config.train.batch_size = 8
    config.log.every_steps = 2
