"""Report B's variant of the tanh network: ReLU, ReLU, tanh, and half the squared error.

    python scripts/train.py --config=configs/mlp_relu.py[:VARIANT]

Variants: float32 (the default) and float64, which docs/mlp_by_hand.md uses.

Layers, activations, loss and the ranges of the initial weights are those of the report. Its weights, inputs,
learning rate and number of steps are lost: the weights are drawn from the seed, the inputs are those of
report A, whose first point and targets it shares, and the rest is ours.
"""

from ml_collections import config_dict

from jaxnets.config import apply_variant, default_config


def get_config(variant: str = "float32") -> config_dict.ConfigDict:
    """Returns the config of a variant: float32 or float64."""
    config = default_config()
    config.entry = "B/mlp_relu"
    config.note = "tested on the four points that it trained on; inputs are report A's, weights drawn"
    config.model.name = "mlp"
    config.model.layer_sizes = (3, 4, 4, 1)
    config.model.activations = ("relu", "relu", "tanh")
    config.model.init = "torch"  # uniform on ±1/sqrt(inputs): the report's ±0.577 and ±0.5
    config.data.name = "points"
    config.data.split = "official"
    config.train.loss = "half_squared_error"
    config.train.batch_size = 4
    config.train.epochs = 100
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.0
    config.log.every_steps = 20
    config.checkpoint.every_epochs = 50
    return apply_variant(config, "mlp_relu", variant, {"float32": _float32, "float64": _float64})


def _float32(config: config_dict.ConfigDict) -> None:
    config.model.dtype = "float32"


def _float64(config: config_dict.ConfigDict) -> None:
    config.model.dtype = "float64"
