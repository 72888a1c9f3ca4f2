"""From a recipe and its data to a run that can begin: model, optimizer, steps, hooks."""

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
from jaxnets.experiment.execution import fits_on_device, place
from jaxnets.experiment.network import Network
from jaxnets.experiment.optimizer import OptimizerBundle, make_optimizer_bundle
from jaxnets.runtime.console import Reporter
from jaxnets.training.callbacks import Callback, make_callbacks
from jaxnets.training.checkpoint import Checkpoints
from jaxnets.training.devices import CompiledStep, Devices
from jaxnets.training.loss import make_loss
from jaxnets.training.on_device import Examples, multi_step, with_on_device_gather
from jaxnets.training.preprocess import Preprocess, make_preprocess
from jaxnets.training.run import Cadence, Run
from jaxnets.training.state import TrainState
from jaxnets.training.step import TrainStep, make_eval_step, make_train_step


def build_run(
    config: config_dict.ConfigDict,
    data: Data,
    devices: Devices,
    network: Network,
    directory: Path,
    reporter: Reporter,
    more_hooks: Sequence[Callback],
) -> tuple[Run, "Evaluator"]:
    """A run before its first step, and what scores its states."""
    plan = make_cadence(config, data.order(devices).steps_per_epoch)
    rule = make_optimizer_bundle(
        config,
        network.parts,
        total_steps=plan.total_steps,
        steps_per_epoch=plan.steps_per_epoch,
    )
    _warn_of_unreachable_phases(config, plan, rule, reporter)
    loss = make_loss(config.train, models.entry(config.model.name).auxiliary_weight)
    train_step = make_train_step(
        network.model,
        loss,
        rule.optimizer,
        preprocess=make_preprocess(config, train=True),
        grad_accum_steps=config.train.grad_accum_steps,
        ema_decay=config.train.ema_decay,
        axis_name=devices.axis_name,
        partition=rule.parts,
        head_only_steps=rule.head_only_steps,
    )
    followed = {
        "validation": data.split.validation,
        "test": data.split.test if config.eval.monitor_test else np.empty(0, np.int64),
    }
    followed = {split: indices for split, indices in followed.items() if len(indices)}
    state = TrainState.create(
        network.variables,
        rule.optimizer,
        seed=config.seed,
        with_ema=config.train.ema_decay is not None,
    )
    validates = "validation" in followed
    callbacks = make_callbacks(
        config, reporter.console, is_process_zero=devices.is_process_zero, has_validation=validates
    )
    callbacks += more_hooks
    _require_names(callbacks)
    checkpoints = Checkpoints(directory / workdir.CHECKPOINTS, keep=config.checkpoint.keep)
    placement = place(
        config,
        data,
        devices,
        parameters=models.count_parameters(state.params),
        callbacks=callbacks,
        before=checkpoints.newest_fingerprint(),
    )
    examples = fits_on_device(data, devices) if placement.on_device else None
    steps_per_execution = placement.steps_per_execution
    evaluator = make_evaluator(config, network.model, data, devices, examples)
    evaluators = {"validation": evaluator, "test": evaluator}
    if "test" in followed and config.eval.augment:  # as reports tested that draw the curve
        preprocess = make_preprocess(config, train=False, augment=True)
        evaluators["test"] = make_evaluator(
            config, network.model, data, devices, examples, preprocess=preprocess
        )
    run = Run(
        config=config,
        workdir=directory,
        plan=plan if followed else dataclasses.replace(plan, evaluate_every=None),
        devices=devices,
        state=devices.replicate(state),
        train_step=_compilable(train_step, devices, examples, steps_per_execution),
        evaluate=lambda state: {
            split: evaluators[split].means(state, indices, before_batch=run.check_interrupted)
            for split, indices in followed.items()
        },
        batches=data.train_batches(devices)
        if examples is None
        else data.index_batches(devices, steps_per_execution=steps_per_execution),
        checkpoints=checkpoints,
        callbacks=callbacks,
        learning_rate=rule.schedule,
        determinism_fingerprint=environment.determinism_fingerprint(
            config=config, placement=placement.determinism_fingerprint(data)
        ),
        steps_per_execution=steps_per_execution,
        description=placement.description,
    )
    return run, evaluator


def _warn_of_unreachable_phases(
    config: config_dict.ConfigDict, plan: Cadence, rule: OptimizerBundle, reporter: Reporter
) -> None:
    """Says where a run ends before a part of its recipe begins."""
    total = plan.total_steps
    warmup = config_lib.steps(config, "schedule.warmup_", plan.steps_per_epoch) or 0
    if warmup > total:
        reporter.line(
            "warning",
            f"the warm-up's {warmup} steps outlast the run's {total}: the rate never peaks",
        )
    if rule.head_only_steps is not None and rule.head_only_steps >= total:
        reporter.line(
            "warning",
            f"the head alone is trained for {rule.head_only_steps} steps, the run has {total}: "
            "the body stays as it is",
        )


def _require_names(callbacks: Sequence[Callback]) -> None:
    names = [callback.name for callback in callbacks]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"two hooks are named alike among {', '.join(names)}: give one another `name`"
        )


def _compilable(
    train_step: TrainStep, devices: Devices, examples: Examples | None, steps_per_execution: int
) -> CompiledStep:
    if examples is None:
        return devices.compile_step(train_step, donate=True)
    form = with_on_device_gather(train_step) if steps_per_execution == 1 else multi_step(train_step)
    return devices.compile_step(form, donate=True, shared=(examples,))


def make_cadence(config: config_dict.ConfigDict, steps_per_epoch: int) -> Cadence:
    """The recipe's durations in steps; evaluation and saves are once an epoch where it says nothing.

    A training line is written once an epoch at least: each evaluation has a training loss beside it.
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
    examples: Examples | None = None,
    *,
    preprocess: Preprocess | None = None,
    dropout: bool = False,
) -> "Evaluator":
    """A function (state, indices) -> Scores: of clean examples where `preprocess` is None.

    `examples` are those on the device.
    """
    step = make_eval_step(
        model,
        make_loss(config.train),
        preprocess=preprocess or make_preprocess(config, train=False),
        ema=config.eval.ema,
        dropout=dropout,
        axis_name=devices.axis_name,
        with_probabilities=True,
    )
    if examples is None:
        return Evaluator(devices.compile_step(step, donate=False), data, devices)
    compiled = devices.compile_step(with_on_device_gather(step), donate=False, shared=(examples,))
    return Evaluator(compiled, data, devices, on_device=True)


def extra_test_evaluators(
    config: config_dict.ConfigDict, data: Data, devices: Devices
) -> "dict[str, Evaluator]":
    """The tests beside the clean one that a recipe asks for, by their names in result.json."""
    wanted = {
        "augmented": (config.eval.augment, False),
        "dropout": (False, config.eval.dropout),
        "augmented_dropout": (config.eval.augment, config.eval.dropout),
    }
    model = models.create(config.model, axis_name=devices.axis_name)
    data = dataclasses.replace(data, features=None)  # of images as they are
    return {
        name: make_evaluator(
            config,
            model,
            data,
            devices,
            preprocess=make_preprocess(config, train=False, augment=augment),
            dropout=dropout,
        )
        for name, (augment, dropout) in wanted.items()
        if (augment or dropout) and (name != "augmented_dropout" or (augment and dropout))
    }


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Scores a state on examples of the data, each counted once."""

    step: CompiledStep
    data: Data
    devices: Devices
    on_device: bool = False

    def __call__(
        self,
        state: TrainState,
        indices: np.ndarray,
        more: Mapping[str, Any] | None = None,
        *,
        before_batch: Callable[[], None] = lambda: None,
    ) -> Scores:
        """`more` is what the preprocessing wants beside every example, the same for all."""

        def batches() -> Iterator[dict[str, Any]]:
            for batch in self.data.eval_batches(
                indices, self.devices, more, on_device=self.on_device
            ):
                before_batch()
                yield batch

        classes = len(self.data.source.classes)
        return evaluate(self.step, state, batches(), expected=len(indices), classes=classes)

    def predictions(self, scores: Scores, indices: np.ndarray) -> Predictions | None:
        """What the network said of each of `indices`, from their scores; None where they have no classes."""
        if not isinstance(scores, ClassScores) or scores.probabilities is None:
            return None
        return Predictions.of(self.data.source, indices, scores.probabilities, self.data.group_ids)

    def entry(
        self, state: TrainState, indices: np.ndarray, more: Mapping[str, Any] | None = None
    ) -> results.Test:
        """One entry of result.json's `tests`."""
        scores = self(state, indices, more)
        return results.test_entry(scores, self.predictions(scores, indices))

    def compile(self, state: TrainState, indices: np.ndarray) -> None:
        """Compiles the step ahead of the first evaluation."""
        one = indices[:1]  # every batch is padded to the same size
        batch = next(self.data.eval_batches(one, self.devices, on_device=self.on_device))
        self.step.compile(state, batch)

    def means(
        self, state: TrainState, indices: np.ndarray, *, before_batch: Callable[[], None]
    ) -> dict[str, float]:
        """What hooks hear of an evaluation: loss, and accuracy where there are classes."""
        scores = self(state, indices, before_batch=before_batch)
        accuracy = {"accuracy": scores.accuracy} if isinstance(scores, ClassScores) else {}
        return {"loss": scores.loss, **accuracy}
