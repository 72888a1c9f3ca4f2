"""Settings shared by the configs of the lung networks.

Reports A and B state the epochs, and B the batch sizes; optimizer, learning rate, augmentation and image
sizes are ours.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from ml_collections import config_dict

from jaxnets.config import apply_variant, default_config
from jaxnets.config.transfer import freeze_backbone, head_only_first

SCRATCH = "report A gives 10 epochs and 768 px originals; the other settings are ours"
TRANSFER = "report B gives 100 epochs and the batch; the other settings are ours"
UNTRAINED = "no report trained it so: the settings are ours"

Change = Callable[[config_dict.ConfigDict], None]

CPU_PIXELS = {
    "resnet": 64,
    "inception_v1": 75,
    "inception_v3": 75,
    "inception_resnet_v2": 75,
    "densenet": 64,
}
"""Image sizes of `cpu_row`; 75 is the minimum of Inception v3 and Inception-ResNet v2."""


@dataclasses.dataclass(frozen=True)
class LungNetwork:
    """The settings of one network, configs/NAME.py.

    The entries are the reported runs that `scratch` and `transfer` are compared with. `small` is the image
    size of `demo` and `smoke`; `dropout` is the rate in all variants but `transfer`; `smoke` may shrink the
    network.
    """

    name: str
    model: str
    scratch_entry: str | None = None
    transfer_entry: str | None = None
    transfer_batch: int = 32
    small: int = 48
    dropout: float = 0.0
    smoke: Change | None = None

    def config(self, variant: str) -> config_dict.ConfigDict:
        """Returns the config of a variant: scratch, transfer, finetune, demo or smoke.

        Raises ConfigError for an unknown variant.
        """
        variants = {
            "scratch": self._scratch,
            "transfer": self._transfer,
            "finetune": self._finetune,
            "demo": self._demo,
            "smoke": self._smoke,
        }
        return apply_variant(self._common(), self.name, variant, variants)

    def _common(self) -> config_dict.ConfigDict:
        config = default_config()
        config.model.name = self.model
        config.model.dropout = self.dropout
        config.augment.flip_horizontal = True
        config.augment.flip_vertical = True
        config.augment.right_angles = True  # tissue has no orientation
        config.train.drop_last = True  # batch statistics of a short batch are noisy
        config.optimizer.name = "sgd"
        config.optimizer.nesterov = True
        config.optimizer.weight_decay = 1e-4
        config.schedule.name = "cosine"
        return config

    def _scratch(self, config: config_dict.ConfigDict) -> None:
        _real(config)
        config.entry = self.scratch_entry
        config.note = UNTRAINED if self.scratch_entry is None else SCRATCH
        config.data.name = "auto"
        config.train.epochs = 10
        config.schedule.warmup_epochs = 1

    def _transfer(self, config: config_dict.ConfigDict) -> None:
        _real(config)
        freeze_backbone(config)
        config.entry = self.transfer_entry
        config.note = UNTRAINED if self.transfer_entry is None else TRANSFER
        config.train.batch_size = self.transfer_batch

    def _finetune(self, config: config_dict.ConfigDict) -> None:
        _real(config)
        head_only_first(config)
        config.note = "no report fine-tunes a whole network: the settings are ours"

    def _demo(self, config: config_dict.ConfigDict) -> None:
        config.data.name = "synthetic_tissue"
        config.data.num_examples = 1500
        config.data.image_size = self.small
        config.train.batch_size = 16
        config.train.epochs = 6
        config.optimizer.learning_rate = 0.005  # at 0.02 the loss rises during warmup
        config.schedule.warmup_steps = 30
        config.note = "drawn tissue: nothing here says anything of real lungs"

    def _smoke(self, config: config_dict.ConfigDict) -> None:
        self._demo(config)
        config.data.num_examples = 90
        config.optimizer.learning_rate = 0.02
        config.train.epochs = 2
        config.log.every_steps = 2
        config.schedule.warmup_steps = 2
        if self.smoke is not None:
            self.smoke(config)


def cpu_row(network: str, split: str, seed: int = 0) -> dict[str, Any]:
    """Returns a row of a table: configs/lung_NETWORK.py:scratch at a size and length for CPUs."""
    pixels = CPU_PIXELS[network]
    return {
        "name": f"lung_{network}-{pixels}px-{split}-s{seed}",
        "config": f"configs/lung_{network}.py:scratch",
        "overrides": {
            "data.name": "lc25000_lung",
            "data.image_size": pixels,
            "data.split": split,
            "train.epochs": 3,
            "schedule.warmup_steps": 100,
            "note": f"CPU-sized run: {pixels} px and 3 epochs, for want of a GPU; the settings are ours",
        },
        "seed": seed,
    }


def _real(config: config_dict.ConfigDict) -> None:
    config.data.name = "lc25000_lung"
    config.data.split = "grouped"  # the reports use --config.data.split=random, which leaks
    config.data.image_size = 224
    config.train.batch_size = 32
    config.optimizer.learning_rate = 0.02
