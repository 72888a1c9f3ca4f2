"""ResNet-50 on lung tissue, three classes; report A's network, whose recipe is not known: this one is ours.

    python scripts/train.py --config=configs/lung_resnet.py

`:scratch` (the default) trains on LC25000, 10 epochs at 224 px as report A says, `:demo` on drawn
tissue in a few minutes on two cores, `:smoke` a few steps. Without LC25000 the default is `:demo`.
"""

from ml_collections import config_dict

from jaxnets.config import choose, recipe


def get_config(variant: str = "scratch") -> config_dict.ConfigDict:
    """The recipe of a variant: scratch, demo or smoke."""
    config = recipe()
    config.model.name = "resnet50"
    config.augment.flip_horizontal = True
    config.augment.flip_vertical = True
    config.augment.right_angles = True  # tissue has no upright
    config.train.drop_last = True  # batch statistics of a short batch are poor
    config.optimizer.name = "sgd"
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "cosine"
    return choose(
        config, "lung_resnet", variant, {"scratch": _scratch, "demo": _demo, "smoke": _smoke}
    )


def _scratch(config: config_dict.ConfigDict) -> None:
    config.entry = "A/resnet50"
    config.note = "report A gives 10 epochs and 768 px originals; the rest of the recipe is ours"
    config.data.name = "auto"
    config.data.image_size = 224
    config.train.batch_size = 32
    config.train.epochs = 10
    config.optimizer.learning_rate = 0.02
    config.schedule.warmup_epochs = 1


def _demo(config: config_dict.ConfigDict) -> None:
    config.data.name = "synthetic_tissue"
    config.data.num_examples = 1500
    config.data.image_size = 48
    config.train.batch_size = 16
    config.train.epochs = 6
    config.optimizer.learning_rate = 0.02
    config.schedule.warmup_steps = 30
    config.note = "drawn tissue: nothing here says anything of real lungs"


def _smoke(config: config_dict.ConfigDict) -> None:
    _demo(config)
    config.model.stage_sizes = (1, 1, 1, 1)
    config.model.width = 8
    config.data.num_examples = 90
    config.data.image_size = 32
    config.train.epochs = 2
    config.log.every_steps = 2
    config.schedule.warmup_steps = 2
