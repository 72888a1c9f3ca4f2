"""Creates the optimizer and schedules of backbone and head."""

import dataclasses

import optax
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets.training.optimizer import make_optimizer, make_schedule
from jaxnets.training.state import BackboneHeadPartition


@dataclasses.dataclass(frozen=True)
class OptimizerBundle:
    """The optimizer, the head's learning rate schedule, and the arguments of `make_train_step`."""

    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    parts: BackboneHeadPartition | None
    head_only_steps: int | None


def make_optimizer_bundle(
    config: config_dict.ConfigDict,
    parts: BackboneHeadPartition | None,
    *,
    total_steps: int,
    steps_per_epoch: int,
) -> OptimizerBundle:
    """The optimizer of a config; the shapes of its state do not depend on the numbers of steps."""
    transfer = config.transfer
    head_only_steps = config_lib.steps(config, "transfer.head_only_", steps_per_epoch) or 0
    schedule = make_schedule(config, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    if transfer.freeze_backbone:
        optimizer = make_optimizer(config, schedule, partition=parts)
        return OptimizerBundle(optimizer, schedule, parts, head_only_steps=None)
    if parts is None or (head_only_steps == 0 and transfer.backbone_lr_multiplier == 1):
        optimizer = make_optimizer(config, schedule)
        return OptimizerBundle(optimizer, schedule, None, head_only_steps=None)
    backbone_schedule = make_schedule(
        config,
        total_steps=max(total_steps - head_only_steps, 1),
        steps_per_epoch=steps_per_epoch,
        multiplier=transfer.backbone_lr_multiplier,
    )
    optimizer = make_optimizer(config, schedule, partition=parts, backbone_schedule=backbone_schedule)
    optimizer = make_optimizer(config, schedule, partition=parts, backbone_schedule=backbone_schedule)
    return OptimizerBundle(optimizer, schedule, parts, head_only_steps)
