"""The optax optimizer and learning rate schedule of a config, with PyTorch's conventions."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import config_dict

from jaxnets.config import steps

Hyperparams = dict[str, Any]
"""Hyperparameters by name: Python numbers, constants of a program, or scalars that are its arguments."""


def schedule_hyperparams(
    config: config_dict.ConfigDict, *, total_steps: int, steps_per_epoch: int, multiplier: float = 1.0
) -> Hyperparams:
    """Returns the hyperparameters of a config's learning-rate schedule, see `make_schedule`."""
    number = np.dtype(jnp.result_type(float)).type
    warmup = float(steps(config, "schedule.warmup_", steps_per_epoch) or 0)
    hyperparams = {"peak": multiplier * config.optimizer.learning_rate}
    if warmup:
        hyperparams |= {"warmup": warmup, "warmup_inverse": float(1 / number(warmup))}
    if config.schedule.name == "cosine":
        remaining, final = max(total_steps - warmup, 1.0), config.schedule.final_fraction
        angle = float(number(np.pi) * (1 / number(remaining)))
        return {**hyperparams, "remaining": remaining, "angle": angle, "final": final, "range": 1 - final}
    if config.schedule.name == "step":
        interval = float(steps(config, "schedule.decay_every_", steps_per_epoch) or 0)
        return {**hyperparams, "interval": interval, "factor": config.schedule.decay_factor}
    return hyperparams


def schedule_of(hyperparams: Hyperparams) -> optax.ScalarOrSchedule:
    """Returns the schedule of these hyperparameters, or the learning rate if it is constant."""
    is_constant = hyperparams.keys() == {"peak"}
    return hyperparams["peak"] if is_constant else functools.partial(learning_rate, hyperparams)


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
    hyperparams = schedule_hyperparams(
        config, total_steps=total_steps, steps_per_epoch=steps_per_epoch, multiplier=multiplier
    )
    return functools.partial(learning_rate, hyperparams)


def learning_rate(hyperparams: Hyperparams, step: Any) -> Any:
    """Returns the learning rate of a step, as optax's schedules, which do not accept traced numbers of steps.

    Where XLA multiplies by the inverse of a constant, so does this, to give the same bits.
    """
    # JAX divides integers in single precision, even if everything else is double.
    step = jnp.asarray(step, jnp.result_type(float))
    peak, warmup = hyperparams["peak"], hyperparams.get("warmup")
    count, rate = step if warmup is None else step - warmup, peak
    if "angle" in hyperparams:
        cosine = jnp.cos(jnp.minimum(count, hyperparams["remaining"]) * hyperparams["angle"])
        rate = peak * (hyperparams["range"] * (0.5 * (1 + cosine)) + hyperparams["final"])
    elif "interval" in hyperparams:
        decayed = peak * jnp.power(hyperparams["factor"], jnp.floor(count / hyperparams["interval"]))
        rate = jnp.where(count <= 0, peak, decayed)
    if warmup is None:
        return rate
    left = 1 - jnp.clip(step, 0, warmup) * hyperparams["warmup_inverse"]
    return jnp.where(step < warmup, -peak * left + peak, rate)


def optimizer_hyperparams(config: config_dict.ConfigDict) -> Hyperparams:
    """Returns the hyperparameters of a config's optimizer, see `make_optimizer`."""
    settings = config.optimizer
    names = ("weight_decay", "momentum", "beta1", "beta2", "epsilon")
    hyperparams = {name: settings[name] for name in names if settings[name] is not None}
    hyperparams |= {f"one_minus_{name}": 1 - settings[name] for name in ("beta1", "beta2")}
    return hyperparams | {"max_norm": config.train.clip_grad_norm or 0.0}


def make_optimizer(
    config: config_dict.ConfigDict, schedule: optax.ScalarOrSchedule, hyperparams: Hyperparams | None = None
) -> optax.GradientTransformation:
    """Makes the optimizer of a config, with PyTorch's momentum and weight decay.

    Args:
        config: a whole config; its sections `optimizer` and `train` are used.
        schedule: the learning rate by step, or a constant.
        hyperparams: replace those of the config, `optimizer_hyperparams(config)`.
    """
    return optax.chain(*make_clipping(config, hyperparams), *make_transforms(config, schedule, hyperparams))


def make_clipping(
    config: config_dict.ConfigDict, hyperparams: Hyperparams | None = None
) -> list[optax.GradientTransformation]:
    """Returns the clipping of gradients by their global norm, or an empty list without it."""
    hyperparams = hyperparams or optimizer_hyperparams(config)
    return [optax.clip_by_global_norm(hyperparams["max_norm"])] if config.train.clip_grad_norm else []


def make_transforms(
    config: config_dict.ConfigDict, schedule: optax.ScalarOrSchedule, hyperparams: Hyperparams | None = None
) -> list[optax.GradientTransformation]:
    """Coupled weight decay is added to the gradient (torch.optim.SGD, Adam), decoupled to the update (AdamW).

    Momentum is torch's: buffer = momentum * buffer + gradient, without dampening.
    """
    settings, hyperparams = config.optimizer, hyperparams or optimizer_hyperparams(config)
    decay = [optax.add_decayed_weights(hyperparams["weight_decay"])] if settings.weight_decay else []
    if callable(schedule):
        scaled, factor = optax.scale_by_learning_rate(schedule), 1.0
    else:  # one multiplication
        scaled, factor = optax.scale_by_schedule(lambda _: 1.0), -schedule
    multiplier = optax.inject_hyperparams(lambda step_size: optax.scale(factor * step_size))
    rate = (scaled, multiplier(step_size=1.0))
    if settings.name == "adam":
        core = _scale_by_adam(hyperparams)
    elif settings.momentum:
        core = optax.trace(hyperparams["momentum"], nesterov=settings.nesterov)
    else:
        core = optax.identity()
    if settings.decoupled_weight_decay:
        return [core, *decay, *rate]
    return [*decay, core, *rate]


def _scale_by_adam(hyperparams: Hyperparams) -> optax.GradientTransformation:
    """As optax.scale_by_adam, which would round 1 - beta differently if beta is an argument."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        count, moments, corrected = optax.safe_increment(state.count), [], []
        for name, order, old in (("beta1", 1, state.mu), ("beta2", 2, state.nu)):
            new = jax.tree.map(
                lambda g, t, name=name, order=order: (
                    hyperparams[f"one_minus_{name}"] * g**order + hyperparams[name] * t
                ),
                updates,
                old,
            )
            moments.append(new)
            corrected.append(optax.tree.bias_correction(new, hyperparams[name], count))
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + hyperparams["epsilon"]), *corrected)
        return updates, optax.ScaleByAdamState(count, *moments)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def set_multiplier(opt_state: Any, value: float) -> Any:
    """Returns the optimizer state with the learning rate multiplied by `value` from the next step on."""
    return optax.tree.set(opt_state, step_size=jnp.asarray(value, _multiplier(opt_state).dtype))


def get_multiplier(opt_state: Any) -> float:
    """Returns the multiplier of the learning rate; 1 unless a callback changed it."""
    return float(jax.device_get(_multiplier(opt_state)))


def _multiplier(opt_state: Any) -> jax.Array:
    # Backbone and head have one each; `set_multiplier` sets both.
    return optax.tree.get_all_with_path(opt_state, "step_size")[0][1]
