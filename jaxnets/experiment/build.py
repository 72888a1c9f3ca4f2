"""Builds a training run: optimizer, compiled steps, evaluators and callbacks."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.errors import ConfigError
from jaxnets.evaluation import result as results
from jaxnets.evaluation.metrics import ClassScores, Scores, evaluate
from jaxnets.evaluation.predictions import Predictions
from jaxnets.experiment import environment, workdir
from jaxnets.experiment.data import Data
from jaxnets.experiment.execution import plan_execution
from jaxnets.experiment.network import Network
from jaxnets.experiment.optimizer import OptimizerBundle, make_optimizer_bundle
from jaxnets.runtime.console import Reporter
from jaxnets.training.callbacks import Callback, make_callbacks
from jaxnets.training.checkpoint import Checkpoints
from jaxnets.training.devices import CompiledStep, Devices
from jaxnets.training.loss import make_loss
from jaxnets.training.preprocess import Preprocess, make_preprocess
from jaxnets.training.run import Cadence, Run
from jaxnets.training.state import TrainState
from jaxnets.training.step import (
    StoredExamples,
    TrainStep,
    make_eval_step,
    make_train_step,
    multi_step,
    with_on_device_gather,
)


def build_run(
    config: config_dict.ConfigDict,
    data: Data,
    devices: Devices,
    network: Network,
    directory: Path,
    reporter: Reporter,
    extra_callbacks: Sequence[Callback],
) -> tuple[Run, "Evaluator"]:
    """A run before its first step, and the evaluator of its states."""
    plan = make_cadence(config, data.sampler(devices).steps_per_epoch)
    bundle = make_optimizer_bundle(
        config,
        network.parts,
        total_steps=plan.total_steps,
        steps_per_epoch=plan.steps_per_epoch,
    )
    _warn_of_unreachable_phases(config, plan, bundle, reporter)
    train_step = make_train_step(
        network.model,
        make_loss(config.train, models.entry(config.model.name).auxiliary_weight),
        bundle.optimizer,
        preprocess=make_preprocess(config, train=True),
        grad_accum_steps=config.train.grad_accum_steps,
        ema_decay=config.train.ema_decay,
        axis_name=devices.axis_name,
        partition=bundle.parts,
        head_only_steps=bundle.head_only_steps,
    )
    monitored = {"validation": data.split.validation}
    if config.eval.monitor_test:
        monitored["test"] = data.split.test
    monitored = {split: indices for split, indices in monitored.items() if len(indices)}
    state = TrainState.create(
        network.variables,
        bundle.optimizer,
        seed=config.seed,
        with_ema=config.train.ema_decay is not None,
    )
    callbacks = make_callbacks(
        config,
        reporter.console,
        is_process_zero=devices.is_process_zero,
        has_validation="validation" in monitored,
    )
    callbacks += extra_callbacks
    names = [callback.name for callback in callbacks]
    if len(set(names)) < len(names):
        raise ConfigError(f"callback names must be unique, got {', '.join(names)}: override `name` of one")
    checkpoints = Checkpoints(directory / workdir.CHECKPOINTS, keep=config.checkpoint.keep)
    execution = plan_execution(
        config,
        data,
        devices,
        parameters=models.count_parameters(state.params),
        callbacks=callbacks,
        previous=checkpoints.newest_fingerprint(),
    )
    examples = devices.replicate(data.examples()) if execution.on_device else None
    steps_per_execution = execution.steps_per_execution
    evaluator = make_evaluator(config, network.model, data, devices, examples)
    evaluators = {"validation": evaluator, "test": evaluator}
    if "test" in monitored and config.eval.augment:  # as in the reports that plot this curve
        preprocess = make_preprocess(config, train=False, augment=True)
        evaluators["test"] = make_evaluator(
            config, network.model, data, devices, examples, preprocess=preprocess
        )
    run = Run(
        config=config,
        workdir=directory,
        plan=plan if monitored else dataclasses.replace(plan, evaluate_every=None),
        devices=devices,
        state=devices.replicate(state),
        train_step=_compile_train_step(train_step, devices, examples, steps_per_execution),
        evaluate=lambda state: {
            split: evaluators[split].means(state, indices, before_batch=run.check_interrupted)
            for split, indices in monitored.items()
        },
        batches=data.train_batches(devices)
        if examples is None
        else data.index_batches(devices, steps_per_execution=steps_per_execution),
        checkpoints=checkpoints,
        callbacks=callbacks,
        learning_rate=bundle.schedule,
        determinism_fingerprint=environment.determinism_fingerprint(
            config=config, execution=execution.determinism_fingerprint(data)
        ),
        steps_per_execution=steps_per_execution,
        description=execution.description,
    )
    return run, evaluator


def _warn_of_unreachable_phases(
    config: config_dict.ConfigDict, plan: Cadence, bundle: OptimizerBundle, reporter: Reporter
) -> None:
    total = plan.total_steps
    warmup = config_lib.steps(config, "schedule.warmup_", plan.steps_per_epoch) or 0
    if warmup > total:
        reporter.line(
            "warning",
            f"warmup ({warmup} steps) is longer than training ({total} steps): "
            "the peak learning rate is never reached",
        )
    if bundle.head_only_steps is not None and bundle.head_only_steps >= total:
        reporter.line(
            "warning",
            f"only the head is trained for the first {bundle.head_only_steps} steps, and training has "
            f"{total}: the backbone is never trained",
        )


def _compile_train_step(
    train_step: TrainStep, devices: Devices, examples: StoredExamples | None, steps_per_execution: int
) -> CompiledStep:
    if examples is None:
        return devices.compile_step(train_step, donate=True)
    wrap = with_on_device_gather if steps_per_execution == 1 else multi_step
    return devices.compile_step(wrap(train_step), donate=True, shared=(examples,))


def make_cadence(config: config_dict.ConfigDict, steps_per_epoch: int) -> Cadence:
    """The config's periods in steps; by default evaluation and checkpoints are once per epoch.

    Training metrics are logged at least once per epoch, so that each evaluation has a training loss.
    """

    def duration(prefix: str) -> int | None:
        return config_lib.steps(config, prefix, steps_per_epoch)

    return Cadence(
        total_steps=duration("train.") or 0,
        steps_per_epoch=steps_per_epoch,
        log_every=min(config.log.every_steps, steps_per_epoch),
        evaluate_every=duration("eval.every_") or steps_per_epoch,
        save_every=duration("checkpoint.every_") or steps_per_epoch,
        histograms_every=duration("log.histograms_every_"),
    )


def make_evaluator(
    config: config_dict.ConfigDict,
    model: Any,
    data: Data,
    devices: Devices,
    examples: StoredExamples | None = None,
    *,
    preprocess: Preprocess | None = None,
    dropout: bool = False,
) -> "Evaluator":
    """A callable (state, indices) -> Scores.

    Args:
        config: the run's config.
        model: the Flax module.
        data: where examples are read from.
        devices: where steps run.
        examples: all examples, if they are stored on the devices.
        preprocess: by default the config's, without augmentation.
        dropout: whether dropout is active.
    """
    step = make_eval_step(
        model,
        make_loss(config.train),
        preprocess=preprocess or make_preprocess(config, train=False),
        ema=config.eval.ema,
        dropout=dropout,
        axis_name=devices.axis_name,
    )
    if examples is None:
        return Evaluator(devices.compile_step(step, donate=False), data, devices)
    compiled = devices.compile_step(with_on_device_gather(step), donate=False, shared=(examples,))
    return Evaluator(compiled, data, devices, on_device=True)


def extra_test_evaluators(
    config: config_dict.ConfigDict, data: Data, devices: Devices
) -> "dict[str, Evaluator]":
    """Evaluators of the config's tests with augmentation or dropout, by their names in result.json."""
    augment, dropout = config.eval.augment, config.eval.dropout
    wanted = {
        "augmented": (augment, False),
        "dropout": (False, dropout),
        "augmented_dropout": (augment and dropout, augment and dropout),
    }
    model = models.create(config.model, axis_name=devices.axis_name)
    data = dataclasses.replace(data, features=None)  # augmentation needs the images
    return {
        name: make_evaluator(
            config,
            model,
            data,
            devices,
            preprocess=make_preprocess(config, train=False, augment=augmented),
            dropout=with_dropout,
        )
        for name, (augmented, with_dropout) in wanted.items()
        if augmented or with_dropout
    }


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Evaluates a state on examples of the data; padding is not counted."""

    step: CompiledStep
    data: Data
    devices: Devices
    on_device: bool = False

    def __call__(
        self,
        state: TrainState,
        indices: np.ndarray,
        extra: Mapping[str, Any] | None = None,
        *,
        before_batch: Callable[[], None] = lambda: None,
    ) -> Scores:
        """Scores on `indices`; `extra` are values that the preprocessing needs, the same for each example."""

        def batches() -> Iterator[dict[str, Any]]:
            for batch in self.data.eval_batches(indices, self.devices, extra, on_device=self.on_device):
                before_batch()
                yield batch

        classes = len(self.data.source.classes)
        return evaluate(self.step, state, batches(), expected=len(indices), classes=classes)

    def predictions(self, scores: Scores, indices: np.ndarray) -> Predictions | None:
        """The predictions for `indices` in `scores`; None for a regression."""
        if not isinstance(scores, ClassScores) or scores.probabilities is None:
            return None
        return Predictions.of(self.data.source, indices, scores.probabilities, self.data.group_ids)

    def entry(
        self, state: TrainState, indices: np.ndarray, extra: Mapping[str, Any] | None = None
    ) -> results.Test:
        """One entry of result.json's `tests`."""
        scores = self(state, indices, extra)
        return results.test_entry(scores, self.predictions(scores, indices))

    def compile(self, state: TrainState, indices: np.ndarray) -> None:
        """Compiles the step; every batch is padded to the same size."""
        batches = self.data.eval_batches(indices[:1], self.devices, on_device=self.on_device)
        self.step.compile(state, next(batches))

    def means(
        self, state: TrainState, indices: np.ndarray, *, before_batch: Callable[[], None]
    ) -> dict[str, float]:
        """The metrics that callbacks get: loss, and accuracy if there are classes."""
        scores = self(state, indices, before_batch=before_batch)
        accuracy = {"accuracy": scores.accuracy} if isinstance(scores, ClassScores) else {}
        return {"loss": scores.loss, **accuracy}
