"""Losses, optimizers and schedules match PyTorch in double precision."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import config_dict

pytest.importorskip("torch")

import torch

from benchmarks.oracles import load
from jaxnets import config as config_lib
from jaxnets.errors import ConfigError
from jaxnets.training.loss import make_loss
from jaxnets.training.optimizer import make_optimizer, make_schedule

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("x64"), pytest.mark.usefixtures("optax_promotion")]
mirror, weights = load("mirror"), load("weights")

EXAMPLES, CLASSES, STEPS = 12, 5, 20


def make_config(**fields: Any) -> config_dict.ConfigDict:
    config = config_lib.default_config()
    config.train.steps = STEPS
    config.update_from_flattened_dict({name.replace("__", "."): v for name, v in fields.items()})
    config_lib.validate(config)
    return config


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weights", [(), (0.5, 1.0, 2.0, 4.0, 0.1)])
def test_cross_entropy(smoothing: float, class_weights: tuple[float, ...]) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=3.0, size=(EXAMPLES, CLASSES))
    labels = generator.integers(0, CLASSES, EXAMPLES)
    loss = make_loss(make_config(train__label_smoothing=smoothing, train__class_weights=class_weights).train)

    def mean(logits: jax.Array) -> jax.Array:
        terms = loss(logits, jax.nn.one_hot(labels, CLASSES, dtype="float64"), jnp.ones(EXAMPLES))
        return terms.total / terms.weight_sum

    value, gradient = jax.value_and_grad(mean)(logits)
    theirs = torch.tensor(logits, requires_grad=True)
    weight = torch.tensor(class_weights, dtype=torch.float64) if class_weights else None
    expected = torch.nn.CrossEntropyLoss(weight, label_smoothing=smoothing)(theirs, torch.from_numpy(labels))
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, theirs.grad, rtol=1e-10, atol=1e-15)


def test_cross_entropy_with_soft_targets() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(EXAMPLES, CLASSES))
    probabilities = generator.dirichlet(np.ones(CLASSES), EXAMPLES)
    terms = make_loss(make_config(train__label_smoothing=0.1).train)(logits, probabilities, np.ones(EXAMPLES))
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(
        torch.from_numpy(logits), torch.from_numpy(probabilities)
    )
    assert terms.total / terms.weight_sum == pytest.approx(expected.item(), rel=1e-12)


def test_mean_squared_error() -> None:
    outputs, targets = np.random.default_rng(0).normal(size=(2, EXAMPLES, CLASSES))
    loss = make_loss(make_config(train__loss="mean_squared_error").train)
    terms = loss(outputs, targets, np.ones(EXAMPLES))
    expected = torch.nn.MSELoss()(torch.from_numpy(outputs), torch.from_numpy(targets))
    assert terms.total / terms.weight_sum == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(("name", "factor"), [("sum_squared_error", 1), ("half_squared_error", 0.5)])
def test_sums_of_squared_errors(name: str, factor: float) -> None:
    outputs, targets = np.random.default_rng(0).normal(size=(2, EXAMPLES, CLASSES))
    loss = make_loss(make_config(train__loss=name).train)
    total, gradient = jax.value_and_grad(lambda x: loss(x, targets, jnp.ones(EXAMPLES)).total)(outputs)
    theirs = torch.tensor(outputs, requires_grad=True)
    expected = factor * torch.nn.MSELoss(reduction="sum")(theirs, torch.from_numpy(targets))
    expected.backward()
    assert total == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, theirs.grad, rtol=1e-12)


def test_nesterov_without_momentum_raises_in_both(smoke_config: str) -> None:
    with pytest.raises(ConfigError, match=r"optimizer.nesterov=True is not used.*momentum"):
        config_lib.load_config(smoke_config, {"optimizer.nesterov": True, "optimizer.momentum": 0.0})
    with pytest.raises(ValueError, match="requires a momentum"):
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, nesterov=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "sgd", "momentum": 0.0},
        {"name": "sgd", "momentum": 0.9},
        {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"name": "sgd", "momentum": 0.0, "weight_decay": 0.01},
        {"name": "adam"},
        {"name": "adam", "weight_decay": 0.01},
        {"name": "adam", "weight_decay": 0.01, "decoupled_weight_decay": True},
        {"name": "adam", "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3},
    ],
    ids=str,
)
def test_optimizers_match_for_twenty_steps(settings: dict[str, Any]) -> None:
    config = make_config(**{f"optimizer__{name}": value for name, value in settings.items()})
    generator = np.random.default_rng(0)
    start = {"kernel": generator.normal(size=(7, 3)), "bias": generator.normal(size=3)}
    theirs = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start.items()}
    torch_optimizer = mirror.make_optimizer(config.optimizer, theirs.values())
    optimizer = make_optimizer(config, make_schedule(config, total_steps=STEPS, steps_per_epoch=1))
    params, state, update = start, optimizer.init(start), jax.jit(optimizer.update)
    for _ in range(STEPS):
        gradient = {name: generator.normal(size=value.shape) for name, value in start.items()}
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        for name, parameter in theirs.items():
            parameter.grad = torch.tensor(gradient[name])
        torch_optimizer.step()
        for name, parameter in theirs.items():
            distance = weights.relative_l2(np.asarray(params[name]), parameter.detach().numpy())
            assert distance < 1e-12


def test_clip_grad_norm() -> None:
    config = make_config(train__clip_grad_norm=0.5, optimizer__momentum=0.0)
    generator = np.random.default_rng(0)
    start = {"a": generator.normal(size=(4, 3)), "b": generator.normal(size=5)}
    gradient = {name: generator.normal(size=value.shape) for name, value in start.items()}
    optimizer = make_optimizer(config, make_schedule(config, total_steps=STEPS, steps_per_epoch=1))
    updates, _ = optimizer.update(gradient, optimizer.init(start), start)
    theirs = [torch.nn.Parameter(torch.tensor(value)) for value in start.values()]
    for parameter, value in zip(theirs, gradient.values(), strict=True):
        parameter.grad = torch.tensor(value)
    torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    for parameter, value in zip(theirs, updates.values(), strict=True):
        # PyTorch divides by the norm plus 1e-6.
        expected = -config.optimizer.learning_rate * parameter.grad
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def rates(config: config_dict.ConfigDict, scheduler: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the learning rate of each step, ours and PyTorch's."""
    parameter = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    torch_optimizer = torch.optim.SGD([parameter], lr=config.optimizer.learning_rate)
    theirs, expected = scheduler(torch_optimizer), []
    for _ in range(STEPS):
        expected.append(torch_optimizer.param_groups[0]["lr"])
        torch_optimizer.step()
        theirs.step()
    schedule = jax.jit(make_schedule(config, total_steps=STEPS, steps_per_epoch=1))
    found = [schedule(jnp.asarray(step, jnp.int32)) for step in range(STEPS)]
    return np.array(found), np.array(expected)


def test_step_schedule() -> None:
    config = make_config(schedule__name="step", schedule__decay_every_steps=6, schedule__decay_factor=0.3)
    step_lr = torch.optim.lr_scheduler.StepLR
    np.testing.assert_allclose(
        *rates(config, lambda torch_optimizer: step_lr(torch_optimizer, step_size=6, gamma=0.3)), rtol=1e-12
    )


@pytest.mark.parametrize("final_fraction", [0.0, 0.1])
def test_cosine_schedule(final_fraction: float) -> None:
    config = make_config(schedule__name="cosine", schedule__final_fraction=final_fraction)
    minimum = final_fraction * config.optimizer.learning_rate
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR
    np.testing.assert_allclose(
        *rates(config, lambda torch_optimizer: annealing(torch_optimizer, T_max=STEPS, eta_min=minimum)),
        rtol=1e-12,
    )


def test_cosine_schedule_with_warmup() -> None:
    config = make_config(schedule__name="cosine", schedule__warmup_steps=5)
    schedulers = torch.optim.lr_scheduler

    def warm_then_cosine(torch_optimizer: Any) -> Any:
        rising = schedulers.LambdaLR(torch_optimizer, lambda step: step / 5)
        falling = schedulers.CosineAnnealingLR(torch_optimizer, T_max=STEPS - 5)
        return schedulers.SequentialLR(torch_optimizer, [rising, falling], milestones=[5])

    np.testing.assert_allclose(*rates(config, warm_then_cosine), rtol=1e-12)
