"""Ablations of the reports: parts of LeNet-5, and each network on the other's data.

    python scripts/reproduce.py lenet_questions
    python scripts/train.py --config=configs/lenet_questions.py:mnist --config.model.activation=sigmoid

Variants:
    mnist            the default: report C's LeNet-5 on MNIST, five epochs
    mnist_sgd        report E's
    cifar10          LeNet-5 on CIFAR-10 (32 px, colour), ten epochs, flips and crops as for AlexNet
    alexnet_mnist    report C's AlexNet on MNIST, one epoch, ten minutes on two CPU cores
    alexnet_cifar10  report C's AlexNet on CIFAR-10, one epoch

A twelfth of the training set is for validation. No report has numbers for these runs, so they have no entry.
"""

from ml_collections import config_dict

from jaxnets.config import apply_variant, default_config


def get_config(variant: str = "mnist") -> config_dict.ConfigDict:
    """Returns the config of a variant: mnist, mnist_sgd, cifar10, alexnet_mnist or alexnet_cifar10."""
    config = default_config()
    config.model.name = "lenet5"
    config.data.name = "mnist"
    config.data.image_size = 28
    config.data.split = "official"
    config.data.validation_fraction = 1 / 12
    config.data.mean = (0.5,)
    config.data.std = (0.5,)
    config.train.batch_size = 64
    config.train.epochs = 5
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.001
    config.eval.batch_size = 500
    config.log.every_steps = 200
    config.log.tensorboard = False
    return apply_variant(
        config,
        "lenet_questions",
        variant,
        {
            "mnist": _mnist,
            "mnist_sgd": _mnist_sgd,
            "cifar10": _cifar10,
            "alexnet_mnist": _alexnet_mnist,
            "alexnet_cifar10": _alexnet_cifar10,
        },
    )


def _mnist(config: config_dict.ConfigDict) -> None:
    del config  # the base config


def _mnist_sgd(config: config_dict.ConfigDict) -> None:
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.01


def _cifar10(config: config_dict.ConfigDict) -> None:
    config.data.name = "cifar10"
    config.data.image_size = 32
    config.data.mean = (0.5, 0.5, 0.5)
    config.data.std = (0.5, 0.5, 0.5)
    config.augment.flip_horizontal = True
    config.augment.crop_padding = 4
    config.train.epochs = 10


def _alexnet_mnist(config: config_dict.ConfigDict) -> None:
    config.model.name = "alexnet"
    config.model.variant = "pool3"
    config.model.dropout = 0.5
    config.train.epochs = 1


def _alexnet_cifar10(config: config_dict.ConfigDict) -> None:
    _cifar10(config)
    _alexnet_mnist(config)
