"""Report A's 3-4-4-1 tanh network on its four points: gradient descent on the sum of squared errors.

    python scripts/train.py --config=configs/mlp_tanh.py[:VARIANT]

Variants: float32 (the default) and float64, which docs/mlp_by_hand.md uses.

Training starts from the 41 weights in the report and runs its five steps. After one step
(--config.train.steps=1) the weights are the 41 of the report's scalar engine.
"""

from ml_collections import config_dict

from jaxnets.config import apply_variant, default_config


def get_config(variant: str = "float32") -> config_dict.ConfigDict:
    """Returns the config of a variant: float32 or float64."""
    config = default_config()
    config.entry = "A/mlp_tanh"
    config.note = "the four points that are tested are the four that it trained on"
    config.model.name = "mlp"
    config.model.layer_sizes = (3, 4, 4, 1)
    config.model.activations = ("tanh", "tanh", "tanh")
    config.model.init = "published"
    config.data.name = "points"
    config.data.split = "official"
    config.train.loss = "sum_squared_error"
    config.train.batch_size = 4
    config.train.epochs = 5  # of one step each
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.0
    config.log.every_steps = 1
    return apply_variant(config, "mlp_tanh", variant, {"float32": _float32, "float64": _float64})


def _float32(config: config_dict.ConfigDict) -> None:
    config.model.dtype = "float32"


def _float64(config: config_dict.ConfigDict) -> None:
    config.model.dtype = "float64"
