"""By which rule each part of a network learns, and when."""

import dataclasses

import optax
from ml_collections import config_dict

from jaxnets import config as recipes
from jaxnets.training.backbone import NetworkParts
from jaxnets.training.optimizer import make_optimizer, make_schedule


@dataclasses.dataclass(frozen=True)
class Rule:
    """The optimizer, the learning rate that is shown (the head's), and how long the head learns alone.

    `parts` and `head_steps` are as make_train_step takes them.
    """

    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    parts: NetworkParts | None
    head_steps: int | None


def make_rule(
    config: config_dict.ConfigDict,
    parts: NetworkParts | None,
    *,
    total_steps: int,
    steps_per_epoch: int,
) -> Rule:
    """The rule of a recipe; the shapes of its state do not depend on the numbers of steps."""
    transfer = config.transfer
    head_steps = recipes.steps(config, "transfer.head_first_", steps_per_epoch) or 0
    schedule = make_schedule(config, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    if transfer.frozen:
        optimizer = make_optimizer(config, schedule, network_parts=parts)
        return Rule(optimizer, schedule, parts, head_steps=None)
    if parts is None or (head_steps == 0 and transfer.body_share == 1):
        return Rule(make_optimizer(config, schedule), schedule, None, head_steps=None)
    body_schedule = make_schedule(
        config,
        total_steps=max(total_steps - head_steps, 1),
        steps_per_epoch=steps_per_epoch,
        share=transfer.body_share,
    )
    optimizer = make_optimizer(config, schedule, network_parts=parts, body_schedule=body_schedule)
    return Rule(optimizer, schedule, parts, head_steps)
