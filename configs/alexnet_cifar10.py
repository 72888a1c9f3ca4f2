"""AlexNet on CIFAR-10, as two reports trained it: 10 epochs, batches of 64, flips and padded crops, dropout.

    python scripts/prepare_data.py cifar10
    python scripts/train.py --config=configs/alexnet_cifar10.py:sgd

`:adam` (the default) is report C's config and network, `:sgd` report E's. Both augment their test images as
well, and report E tests with dropout on: of the tests in result.json "augmented" and "augmented_dropout" are
theirs, "clean" is ours. Report C looks at its augmented test set after every epoch, and so does `:adam`, for
the curve. `:smoke` is a few steps.

`:best` is ours: report E's network, flips, crops and colours, mixup, a moving average of the weights and 200
epochs of a cosine, meant for at least 91 % on clean test images. It has not been run to its end: that wants a
GPU. It costs ten million images of 1.3 GFLOP, forward and backward, 13 PFLOP in all: 45 minutes at the 5
TFLOP/s that a GPU may reach at this size, 29 hours at the 95 images/s of two CPU cores.
"""

from ml_collections import config_dict

from jaxnets.config import apply_variant, default_config


def get_config(variant: str = "adam") -> config_dict.ConfigDict:
    """Returns the config of a variant: adam, sgd, best or smoke."""
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
    return apply_variant(
        config, "alexnet_cifar10", variant, {"adam": _adam, "sgd": _sgd, "best": _best, "smoke": _smoke}
    )


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


def _smoke(config: config_dict.ConfigDict) -> None:
    _sgd(config)
    config.entry = None
    config.eval.augment = False
    config.eval.dropout = False
    config.train.epochs = None
    config.train.steps = 4
    config.train.batch_size = 8
    config.log.every_steps = 2
