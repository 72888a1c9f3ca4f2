"""What the recipes of the lung networks share: data, augmentation, rule and rate are alike for all five.

Reports A and B give epochs, and B batch sizes; optimizer, rate, augmentation and sizes are ours.
"""

from collections.abc import Callable

from ml_collections import config_dict

from jaxnets.config import choose, recipe

Change = Callable[[config_dict.ConfigDict], None]


def lung_recipe(
    name: str,
    variant: str,
    *,
    model: str,
    entry: str | None = None,
    small: int = 48,
    dropout: float = 0.0,
    smoke: Change | None = None,
) -> config_dict.ConfigDict:
    """The recipe configs/NAME.py:VARIANT of one network; variants are scratch, demo and smoke.

    `entry` is the published run that `scratch` is set beside, `small` the pixels a side of `demo` and
    `smoke`, `dropout` the rate before the classifier; `smoke` may make the network itself smaller.
    Raises ConfigError for another variant.
    """

    def _scratch(config: config_dict.ConfigDict) -> None:
        config.entry = entry
        config.note = (
            "report A gives 10 epochs and 768 px originals; the rest of the recipe is ours"
        )
        config.data.name = "auto"
        config.data.split = (
            "grouped"  # the reports' are random, and leak: --config.data.split=random
        )
        config.data.image_size = 224
        config.train.batch_size = 32
        config.train.epochs = 10
        config.optimizer.learning_rate = 0.02
        config.schedule.warmup_epochs = 1

    def _demo(config: config_dict.ConfigDict) -> None:
        config.data.name = "synthetic_tissue"
        config.data.num_examples = 1500
        config.data.image_size = small
        config.train.batch_size = 16
        config.train.epochs = 6
        config.optimizer.learning_rate = 0.02
        config.schedule.warmup_steps = 30
        config.note = "drawn tissue: nothing here says anything of real lungs"

    def _smoke(config: config_dict.ConfigDict) -> None:
        _demo(config)
        config.data.num_examples = 90
        config.train.epochs = 2
        config.log.every_steps = 2
        config.schedule.warmup_steps = 2
        if smoke is not None:
            smoke(config)

    config = recipe()
    config.model.name = model
    config.model.dropout = dropout
    config.augment.flip_horizontal = True
    config.augment.flip_vertical = True
    config.augment.right_angles = True  # tissue has no upright
    config.train.drop_last = True  # batch statistics of a short batch are poor
    config.optimizer.name = "sgd"
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "cosine"
    return choose(config, name, variant, {"scratch": _scratch, "demo": _demo, "smoke": _smoke})
