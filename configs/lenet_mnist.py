"""LeNet-5 on MNIST, as two reports trained it: 10 epochs, batches of 64, pixels to [-1, 1], no augmentation.

    python scripts/prepare_data.py mnist
    python scripts/train.py --config=configs/lenet_mnist.py:adam

`:adam` (the default) is report C's recipe, `:sgd` report E's, `:smoke` a few steps. Neither report has a
validation set, and neither has this: nothing is chosen. Report C looks at the test set after every epoch, and
so does `:adam`, for the curve.
"""

from ml_collections import config_dict

from jaxnets.config import choose, recipe


def get_config(variant: str = "adam") -> config_dict.ConfigDict:
    """The recipe of a variant: adam, sgd or smoke."""
    config = recipe()
    config.model.name = "lenet5"
    config.data.name = "mnist"
    config.data.image_size = 28
    config.data.split = "official"
    config.data.mean = (0.5,)
    config.data.std = (0.5,)
    config.train.batch_size = 64
    config.train.epochs = 10
    config.eval.batch_size = 500
    return choose(config, "lenet_mnist", variant, {"adam": _adam, "sgd": _sgd, "smoke": _smoke})


def _adam(config: config_dict.ConfigDict) -> None:
    config.entry = "C/lenet5"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.001
    config.eval.follow_test = True
    config.log.every_steps = (
        134  # seven lines an epoch of 938 steps: the report's lines are whole epochs
    )


def _sgd(config: config_dict.ConfigDict) -> None:
    config.entry = "E/lenet5"
    config.optimizer.learning_rate = 0.01
    config.log.every_steps = 100  # as the report's


def _smoke(config: config_dict.ConfigDict) -> None:
    _adam(config)
    config.entry = None
    config.train.epochs = None
    config.train.steps = 20
    config.log.every_steps = 10
