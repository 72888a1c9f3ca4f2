"""Runs that differ only in numbers of the optimizer share their compiled programs."""

import collections
from pathlib import Path

import jax
import pytest
from training_runs import read_metrics

import jaxnets

REQUESTS, HITS = "/jax/compilation_cache/compile_requests_use_cache", "/jax/compilation_cache/cache_hits"
ADAM = {"optimizer.name": "adam", "optimizer.decoupled_weight_decay": True}
CHANGES = {
    "sgd": (
        {},
        {
            "optimizer.learning_rate": 0.003,
            "optimizer.momentum": 0.8,
            "optimizer.weight_decay": 1e-3,
            "schedule.warmup_steps": 3,
            "schedule.final_fraction": 0.1,
            "train.epochs": 3,
            "seed": 5,
        },
    ),
    "adam": (
        {**ADAM, "schedule.name": "step", "schedule.decay_every_steps": 2, "train.clip_grad_norm": 1.0},
        {
            "optimizer.learning_rate": 1e-4,
            "optimizer.beta1": 0.8,
            "optimizer.beta2": 0.9,
            "optimizer.epsilon": 1e-6,
            "schedule.decay_every_steps": 3,
            "schedule.decay_factor": 0.3,
            "train.clip_grad_norm": 0.5,
        },
    ),
    "finetune": (
        {"transfer.weights": "random", "transfer.backbone_lr_multiplier": 0.1},
        {"optimizer.learning_rate": 0.003, "transfer.backbone_lr_multiplier": 0.2},
    ),
}
"""By name: the overrides of the first run, and what the second one changes."""


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("case", CHANGES)
def test_other_numbers_compile_nothing(
    case: str, smoke_config: str, smoke_overrides: dict[str, object], tmp_path: Path
) -> None:
    overrides, changes = CHANGES[case]
    counts: collections.Counter[str] = collections.Counter()

    def count(event: str, **_: object) -> None:
        counts[event] += 1

    jaxnets.train(smoke_config, {**smoke_overrides, **overrides}, workdir=tmp_path / "first")
    jax.monitoring.register_event_listener(count)
    try:
        jaxnets.train(smoke_config, {**smoke_overrides, **overrides, **changes}, workdir=tmp_path / "second")
    finally:
        jax.monitoring.unregister_event_listener(count)
    assert counts[HITS] == counts[REQUESTS] > 0
    first, second = (
        [record["values"]["loss"] for record in read_metrics(tmp_path / name)] for name in ("first", "second")
    )
    assert first != second
