"""LeNet-5 on MNIST, as two reports trained it: 10 epochs, batches of 64, pixels to [-1, 1], no augmentation.

    python scripts/prepare_data.py mnist
    python scripts/train.py --config=configs/lenet_mnist.py:adam

`:adam` (the default) is report C's config, `:sgd` report E's, `:smoke` a few steps. Neither report has a
validation set; nothing is chosen here, so neither do these two configs. Report C looks at the test set
after every epoch, and so does `:adam`, for the curve.

`:best` is ours: turns of up to 10 degrees, crops, 60 epochs of a cosine, a moving average of the weights. Its
learning rate was chosen by the accuracy on a twelfth of train (`scripts/reproduce.py lenet_search`); what it
reaches on the test set stands in docs/lenet_and_alexnet.md.
"""

from ml_collections import config_dict

from jaxnets.config import apply_variant, default_config


def get_config(variant: str = "adam") -> config_dict.ConfigDict:
    """Returns the config of a variant: adam, sgd, best or smoke."""
    config = default_config()
    config.model.name = "lenet5"
    config.data.name = "mnist"
    config.data.image_size = 28
    config.data.split = "official"
    config.data.mean = (0.5,)
    config.data.std = (0.5,)
    config.train.batch_size = 64
    config.train.epochs = 10
    config.eval.batch_size = 500
    variants = {"adam": _adam, "sgd": _sgd, "best": _best, "smoke": _smoke}
    return apply_variant(config, "lenet_mnist", variant, variants)


def _adam(config: config_dict.ConfigDict) -> None:
    config.entry = "C/lenet5"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.001
    config.eval.monitor_test = True
    config.log.every_steps = 134  # seven lines an epoch: the report logs only epochs


def _sgd(config: config_dict.ConfigDict) -> None:
    config.entry = "E/lenet5"
    config.optimizer.learning_rate = 0.01
    config.log.every_steps = 100  # as in the report, which restarts its windows in every epoch


def _best(config: config_dict.ConfigDict) -> None:
    config.augment.rotation_degrees = 10.0
    config.augment.crop_padding = 2
    config.train.batch_size = 128
    config.train.epochs = 60
    config.train.ema_decay = 0.9995
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.004
    config.schedule.name = "cosine"
    config.schedule.warmup_epochs = 1
    config.checkpoint.every_epochs = 5
    config.log.every_steps = 469


def _smoke(config: config_dict.ConfigDict) -> None:
    _adam(config)
    config.entry = None
    config.train.epochs = None
    config.train.steps = 20
    config.log.every_steps = 10
