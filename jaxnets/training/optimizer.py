"""The optax optimizer and learning rate schedule of a config, with PyTorch's conventions."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import config_dict

from jaxnets.config import steps


def make_schedule(
    config: config_dict.ConfigDict, *, total_steps: int, steps_per_epoch: int, multiplier: float = 1.0
) -> optax.Schedule:
    """Makes the learning-rate schedule of a config: linear warmup from 0, then `schedule.name`.

    Args:
        config: a whole config.
        total_steps: number of steps of the training.
        steps_per_epoch: number of steps of an epoch.
        multiplier: a factor of the learning rate.

    Returns:
        The learning rate by step, as optax's schedules.
    """
    peak = multiplier * config.optimizer.learning_rate
    warmup = steps(config, "schedule.warmup_", steps_per_epoch) or 0
    if config.schedule.name == "cosine":
        remaining = max(total_steps - warmup, 1)
        main = optax.cosine_decay_schedule(peak, remaining, alpha=config.schedule.final_fraction)
    elif config.schedule.name == "step":
        interval = steps(config, "schedule.decay_every_", steps_per_epoch) or 0
        main = optax.exponential_decay(peak, interval, config.schedule.decay_factor, staircase=True)
    else:
        main = optax.constant_schedule(peak)
    if warmup:
        main = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])
    # JAX divides integers in single precision, even if everything else is double.
    return lambda count: main(jnp.asarray(count, jnp.result_type(float)))


def make_optimizer(config: config_dict.ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Makes the optimizer of a config, with PyTorch's momentum and weight decay.

    Args:
        config: a whole config; its sections `optimizer` and `train` are used.
        schedule: the learning rate by step.
    """
    return optax.chain(*make_clipping(config), *make_transforms(config, schedule))


def make_clipping(config: config_dict.ConfigDict) -> list[optax.GradientTransformation]:
    """Returns the clipping of gradients by their global norm, or an empty list without it."""
    max_norm = config.train.clip_grad_norm
    return [optax.clip_by_global_norm(max_norm)] if max_norm else []


def make_transforms(
    config: config_dict.ConfigDict, schedule: optax.Schedule
) -> list[optax.GradientTransformation]:
    """Coupled weight decay is added to the gradient (torch.optim.SGD, Adam), decoupled to the update (AdamW).

    Momentum is torch's: buffer = momentum * buffer + gradient, without dampening.
    """
    settings = config.optimizer
    decay = [optax.add_decayed_weights(settings.weight_decay)] if settings.weight_decay else []
    multiplier = optax.inject_hyperparams(optax.scale)(step_size=1.0)
    rate = (optax.scale_by_learning_rate(schedule), multiplier)
    if settings.name == "adam":
        core = optax.scale_by_adam(b1=settings.beta1, b2=settings.beta2, eps=settings.epsilon)
    elif settings.momentum:
        core = optax.trace(settings.momentum, nesterov=settings.nesterov)
    else:
        core = optax.identity()
    if settings.decoupled_weight_decay:
        return [core, *decay, *rate]
    return [*decay, core, *rate]


def set_multiplier(opt_state: Any, value: float) -> Any:
    """Returns the optimizer state with the learning rate multiplied by `value` from the next step on."""
    return optax.tree.set(opt_state, step_size=jnp.asarray(value, _multiplier(opt_state).dtype))


def get_multiplier(opt_state: Any) -> float:
    """Returns the multiplier of the learning rate; 1 unless a callback changed it."""
    return float(jax.device_get(_multiplier(opt_state)))


def _multiplier(opt_state: Any) -> jax.Array:
    # Backbone and head have one each; `set_multiplier` sets both.
    return optax.tree.get_all_with_path(opt_state, "step_size")[0][1]
