"""The optimizer of a recipe: optax's parts, in PyTorch's order and conventions."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import config_dict

from jaxnets.config import steps
from jaxnets.training.backbone import BackboneHeadPartition


def make_schedule(
    config: config_dict.ConfigDict, *, total_steps: int, steps_per_epoch: int, share: float = 1.0
) -> optax.Schedule:
    """The learning rate by step: linear warm-up from 0, then constant, steps or a cosine to the end.

    `share` multiplies it.
    """

    def duration(prefix: str) -> int:
        return steps(config, prefix, steps_per_epoch) or 0

    peak = share * config.optimizer.learning_rate
    warmup = duration("schedule.warmup_")
    if config.schedule.name == "cosine":
        remaining = max(total_steps - warmup, 1)
        main = optax.cosine_decay_schedule(peak, remaining, alpha=config.schedule.final_fraction)
    elif config.schedule.name == "step":
        main = optax.exponential_decay(
            peak,
            duration("schedule.decay_every_"),
            config.schedule.decay_factor,
            staircase=True,
        )
    else:
        main = optax.constant_schedule(peak)
    if warmup:
        main = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])
    # JAX divides whole numbers in single precision, also where everything else is double.
    return lambda count: main(jnp.asarray(count, jnp.result_type(float)))


def make_optimizer(
    config: config_dict.ConfigDict,
    schedule: optax.Schedule,
    *,
    network_parts: BackboneHeadPartition | None = None,
    body_schedule: optax.Schedule | None = None,
) -> optax.GradientTransformation:
    """The recipe's rule for all parameters; with `network_parts` for each part by itself.

    The body's has `body_schedule`, or there is none for it, and no state. Gradients are clipped part by part.
    """
    if network_parts is None:
        return _make_transform(config, schedule)
    body = None if body_schedule is None else _make_transform(config, body_schedule)
    return _partitioned(network_parts, _make_transform(config, schedule), body)


def _partitioned(
    network_parts: BackboneHeadPartition,
    head: optax.GradientTransformation,
    body: optax.GradientTransformation | None,
) -> optax.GradientTransformation:
    """A rule a part. A part without gradients keeps its state: its schedule has not begun."""
    rules: dict[str, Any] = {"head": head} if body is None else {"head": head, "body": body}

    def split(tree: Any) -> dict[str, Any]:
        return dict(zip(("head", "body"), network_parts.split(tree), strict=True))

    def init(params: Any) -> dict[str, Any]:
        parts = split(params)
        return {name: rule.init(parts[name]) for name, rule in rules.items()}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        gradients, parts = split(updates), split(params)
        changes: dict[str, Any] = {}
        new_state = dict(state)
        for name, rule in rules.items():
            if gradients[name]:
                change, new_state[name] = rule.update(gradients[name], state[name], parts[name])
                changes.update(change)
        return changes, new_state

    return optax.GradientTransformation(init, update)


def _make_transform(
    config: config_dict.ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Clipping, coupled decay, SGD or Adam, decoupled decay, the schedule, and the hooks' multiplier.

    Coupled weight decay is added to the gradient (torch.optim.SGD, Adam), decoupled to the update
    (AdamW). Momentum is torch's: buffer = momentum * buffer + gradient, no dampening.
    """
    rule = config.optimizer
    decay = optax.add_decayed_weights(rule.weight_decay) if rule.weight_decay else None
    if rule.name == "adam":
        core = optax.scale_by_adam(b1=rule.beta1, b2=rule.beta2, eps=rule.epsilon)
    elif rule.momentum:
        core = optax.trace(rule.momentum, nesterov=rule.nesterov)
    else:
        core = optax.identity()
    parts = [
        optax.clip_by_global_norm(config.train.clip_grad_norm)
        if config.train.clip_grad_norm
        else None,
        None if rule.decoupled_weight_decay else decay,
        core,
        decay if rule.decoupled_weight_decay else None,
        optax.scale_by_learning_rate(schedule),
        optax.inject_hyperparams(optax.scale)(step_size=1.0),
    ]
    return optax.chain(*(part for part in parts if part is not None))


def set_multiplier(opt_state: Any, value: float) -> Any:
    """The optimizer's state with the learning rate multiplied by `value` from the next step on."""
    return optax.tree.set(opt_state, step_size=jnp.asarray(value, _multiplier(opt_state).dtype))


def get_multiplier(opt_state: Any) -> float:
    """What the learning rate is multiplied by; 1 unless a hook changed it."""
    return float(jax.device_get(_multiplier(opt_state)))


def _multiplier(opt_state: Any) -> jax.Array:
    # Each part of a network has one; all are set alike.
    return optax.tree.get_all_with_path(opt_state, "step_size")[0][1]
