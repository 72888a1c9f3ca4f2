"""Builds a training run: optimizer, compiled steps, evaluators and callbacks."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.data.batch import Batch
from jaxnets.data.dataset import Dataset, IndexBatches
from jaxnets.errors import ConfigError
from jaxnets.experiment import environment
from jaxnets.experiment.evaluator import Evaluator, make_evaluator
from jaxnets.experiment.execution import plan_execution
from jaxnets.experiment.network import Network, OptimizerBundle, hyperparameters, make_optimizer_bundle
from jaxnets.experiment.run_directory import CHECKPOINTS
from jaxnets.runtime import console
from jaxnets.training import on_device, step
from jaxnets.training.callbacks import Callback, make_callbacks
from jaxnets.training.checkpoint import Checkpoints
from jaxnets.training.devices import Devices
from jaxnets.training.loss import make_loss
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.run import Run, TrainingPlan
from jaxnets.training.transfer import make_transfer_step


def build_run(
    config: config_dict.ConfigDict,
    data: Dataset,
    devices: Devices,
    network: Network,
    directory: Path,
    extra_callbacks: Sequence[Callback],
) -> tuple[Run, Evaluator]:
    """A run before its first step, and the evaluator of its states."""
    plan = make_plan(config, data.sampler(devices.shard).steps_per_epoch)
    hyperparams = hyperparameters(config, total_steps=plan.total_steps, steps_per_epoch=plan.steps_per_epoch)
    make_bundle = functools.partial(
        make_optimizer_bundle, config, network.parts, steps_per_epoch=plan.steps_per_epoch
    )
    bundle = make_bundle(hyperparams)
    _warn_of_unreachable_phases(config, plan, bundle)
    with_ema = config.train.ema_decay is not None
    state = step.TrainState.create(network.variables, bundle.optimizer, seed=config.seed, with_ema=with_ema)
    parts = ("validation", "test") if config.eval.monitor_test else ("validation",)
    monitored = {part: data.split.parts()[part] for part in parts if len(data.split.parts()[part])}
    has_validation = "validation" in monitored
    callbacks = make_callbacks(config, is_process_zero=devices.is_process_zero, has_validation=has_validation)
    callbacks = [*callbacks, *extra_callbacks]
    names = [callback.name for callback in callbacks]
    if len(set(names)) < len(names):
        raise ConfigError(f"callback names must be unique, got {', '.join(names)}: override `name` of one")
    checkpoints = Checkpoints(directory / CHECKPOINTS, keep=config.checkpoint.keep)
    execution = plan_execution(
        config,
        data,
        devices,
        parameters=models.count_parameters(state.params),
        callbacks=callbacks,
        previous=checkpoints.newest_fingerprint(),
    )
    examples = devices.replicate(data.examples()) if execution.on_device else None
    evaluator = make_evaluator(config, network.model, data, devices, examples)
    evaluators = {"validation": evaluator, "test": evaluator}
    if "test" in monitored and config.eval.augment:  # as in the reports that plot this curve
        preprocess = make_preprocess(config, train=False, augment=True)
        evaluators["test"] = make_evaluator(
            config, network.model, data, devices, examples, preprocess=preprocess
        )
    make_step: Callable[..., step.TrainStep] = step.make_train_step
    if bundle.parts is not None:
        make_step = functools.partial(
            make_transfer_step, partition=bundle.parts, head_only_steps=bundle.head_only_steps
        )
    auxiliary_weight = models.entry(config.model.name).auxiliary_weight
    make_step = functools.partial(
        make_step,
        network.model,
        make_loss(config.train, auxiliary_weight, class_counts=data.class_counts),
        preprocess=make_preprocess(config, train=True),
        grad_accum_steps=config.train.grad_accum_steps,
        ema_decay=config.train.ema_decay,
        remat=config.train.remat,
        axis_name=devices.axis_name,
    )
    if examples is None:
        batches = data.train_batches(devices.shard)
    else:
        steps = execution.steps_per_execution
        batches = IndexBatches(data.sampler(devices.shard), steps_per_execution=steps)
    wrap = on_device.multi_step if execution.steps_per_execution > 1 else on_device.with_on_device_gather

    def train_step(state: step.TrainState, batch: Batch, hyperparams: Any, *stored: Any) -> Any:
        """As arguments of the program, other learning rates do not need another program."""
        one_step = make_step(optimizer=make_bundle(hyperparams).optimizer)
        return (wrap(one_step) if stored else one_step)(state, batch, *stored)

    shared = (
        devices.replicate(jax.tree.map(jnp.asarray, hyperparams)),
        *([] if examples is None else [examples]),
    )
    compiled = devices.compile_step(train_step, donate=True, shared=shared, least_memory=config.train.remat)
    run = Run(
        config=config,
        workdir=directory,
        plan=plan if monitored else dataclasses.replace(plan, evaluate_every=None),
        devices=devices,
        state=devices.replicate(state),
        train_step=compiled,
        evaluate=lambda state: {
            part: evaluators[part].means(state, indices, before_batch=run.check_interrupted)
            for part, indices in monitored.items()
        },
        batches=batches,
        checkpoints=checkpoints,
        callbacks=callbacks,
        learning_rate=bundle.schedule,
        determinism_fingerprint=environment.determinism_fingerprint(
            config=config, execution=execution.determinism_fingerprint(data)
        ),
        steps_per_execution=execution.steps_per_execution,
        description=execution.description,
    )
    return run, evaluator


def _warn_of_unreachable_phases(
    config: config_dict.ConfigDict, plan: TrainingPlan, bundle: OptimizerBundle
) -> None:
    total = plan.total_steps
    warmup = config_lib.steps(config, "schedule.warmup_", plan.steps_per_epoch) or 0
    if warmup > total:
        console.warn(
            f"warmup ({warmup} steps) is longer than training ({total} steps): the peak learning rate "
            f"is never reached; set --config.schedule.warmup_steps={max(total // 10, 1)}, or train longer"
        )
    if bundle.head_only_steps is not None and bundle.head_only_steps >= total:
        console.warn(
            f"only the head is trained for the first {bundle.head_only_steps} steps, and training has "
            f"{total}: the backbone is never trained"
        )


def make_plan(config: config_dict.ConfigDict, steps_per_epoch: int) -> TrainingPlan:
    """The config's periods in steps; by default evaluation and checkpoints are once per epoch.

    Training metrics are logged at least once per epoch, so that each evaluation has a training loss.
    """
    duration = functools.partial(config_lib.steps, config, steps_per_epoch=steps_per_epoch)
    return TrainingPlan(
        total_steps=duration("train.") or 0,
        steps_per_epoch=steps_per_epoch,
        log_every=min(config.log.every_steps, steps_per_epoch),
        evaluate_every=duration("eval.every_") or steps_per_epoch,
        save_every=duration("checkpoint.every_") or steps_per_epoch,
        histograms_every=duration("log.histograms_every_"),
    )
