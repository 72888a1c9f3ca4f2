"""Evaluates states on examples of a data set; tests a trained run and writes its result."""

import dataclasses
import datetime
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from jaxnets import models
from jaxnets.data.dataset import Dataset
from jaxnets.data.splits import sha256
from jaxnets.evaluation import result as results
from jaxnets.evaluation.predictions import ClassScores, Predictions, Scores, evaluate, predictions_name
from jaxnets.experiment import environment, workdir
from jaxnets.experiment.leakage import Leakage
from jaxnets.experiment.network import Network
from jaxnets.io import read_regular
from jaxnets.runtime import console, xla
from jaxnets.training.callbacks.logs import METRICS, read_lines
from jaxnets.training.devices import CompiledStep, Devices
from jaxnets.training.loss import make_loss
from jaxnets.training.on_device import StoredExamples, with_on_device_gather
from jaxnets.training.preprocess import Preprocess, make_preprocess
from jaxnets.training.run import Run
from jaxnets.training.step import TrainState, make_eval_step


@flax.struct.dataclass
class InferenceState:
    """A state for evaluation only, whose batch normalisations are folded into the convolutions."""

    folded: dict[str, Any]
    key: jax.Array  # as in TrainState

    def variables(self, *, ema: bool = False) -> dict[str, Any]:
        """Returns the variables for `model.apply`."""
        del ema  # chosen when they were folded
        return self.folded


def fold_state(
    config: config_dict.ConfigDict, model: nn.Module, state: TrainState, shape: tuple[int, ...]
) -> InferenceState:
    """Folds the variables that the config evaluates, for examples of a shape without the batch.

    Validation during training does not use this: early stopping and the best checkpoint depend on its bits.
    """
    inputs = jnp.zeros((1, *shape), config.model.dtype)
    fold = xla.jit(lambda variables: models.fold_batch_norm(model, variables, inputs))
    return InferenceState(fold(state.variables(ema=config.eval.ema)), state.key)


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Evaluates a state on examples of the data; padding is not counted."""

    step: CompiledStep
    data: Dataset
    devices: Devices
    on_device: bool = False

    def __call__(
        self,
        state: TrainState | InferenceState,
        indices: np.ndarray,
        extra: Mapping[str, Any] | None = None,
        *,
        before_batch: Callable[[], None] = lambda: None,
    ) -> Scores:
        """Scores on `indices`; `extra` are values that the preprocessing needs, the same for each example."""
        batches = self._batches(indices, extra or {}, before_batch)
        classes = len(self.data.source.classes)
        return evaluate(self.step, state, batches, expected=len(indices), classes=classes)

    def _batches(
        self, indices: np.ndarray, extra: Mapping[str, Any], before_batch: Callable[[], None] = lambda: None
    ) -> Iterator[dict[str, Any]]:
        devices = self.devices
        for batch in self.data.eval_batches(
            indices, devices.shard, multiple_of=devices.count, on_device=self.on_device
        ):
            repeated = {name: np.repeat(value, len(batch["weight"])) for name, value in extra.items()}
            sharded = devices.shard_batch({**batch, **repeated})
            before_batch()
            yield sharded

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
        self.step.compile(state, next(self._batches(indices[:1], {})))

    def means(
        self, state: TrainState, indices: np.ndarray, *, before_batch: Callable[[], None]
    ) -> dict[str, float]:
        """The metrics that callbacks get: loss, and accuracy if there are classes."""
        scores = self(state, indices, before_batch=before_batch)
        accuracy = {"accuracy": scores.accuracy} if isinstance(scores, ClassScores) else {}
        return {"loss": scores.loss, **accuracy}


def make_evaluator(
    config: config_dict.ConfigDict,
    model: nn.Module,
    data: Dataset,
    devices: Devices,
    examples: StoredExamples | None = None,
    *,
    preprocess: Preprocess | None = None,
    dropout: bool = False,
) -> Evaluator:
    """An evaluator of the config's network; `examples` are all of the data's, if the devices store them.

    `preprocess` is by default the config's, without augmentation.
    """
    step = make_eval_step(
        model,
        make_loss(config.train, class_counts=data.class_counts),
        preprocess=preprocess or make_preprocess(config, train=False),
        ema=config.eval.ema,
        dropout=dropout,
        axis_name=devices.axis_name,
    )
    if examples is None:
        return Evaluator(devices.compile_step(step, donate=False), data, devices)
    compiled = devices.compile_step(with_on_device_gather(step), donate=False, shared=(examples,))
    return Evaluator(compiled, data, devices, on_device=True)


def _extra_evaluators(
    config: config_dict.ConfigDict, model: nn.Module, data: Dataset, devices: Devices
) -> dict[str, Evaluator]:
    """Evaluators of the config's tests with augmentation or dropout, by their names in result.json."""
    augment, dropout = config.eval.augment, config.eval.dropout
    wanted = {
        "augmented": (augment, False),
        "dropout": (False, dropout),
        "augmented_dropout": (augment and dropout, augment and dropout),
    }
    data = dataclasses.replace(data, features=None)  # augmentation needs the images
    evaluators = {}
    for name, (augmented, with_dropout) in wanted.items():
        if augmented or with_dropout:
            preprocess = make_preprocess(config, train=False, augment=augmented)
            evaluators[name] = make_evaluator(
                config, model, data, devices, preprocess=preprocess, dropout=with_dropout
            )
    return evaluators


def finish(
    run: Run,
    evaluator: Evaluator,
    data: Dataset,
    network: Network,
    leakage: Leakage,
    overrides: Mapping[str, Any],
    command: str,
) -> results.Result:
    """Tests the run, writes predictions and result.json, and returns the result."""
    config, split = run.config, data.split
    state, tested = run.state, run.step
    if config.eval.use_best and run.best_step is not None:
        tested = run.best_step
        state, _ = run.checkpoints.restore(run.best_step, run.state)
    with console.phase("evaluate") as phase:
        test = evaluator(state, split.test) if len(split.test) else None
        validation = evaluator(state, split.validation) if len(split.validation) else None
        evaluators = _extra_evaluators(config, network.model, data, run.devices) if test else {}
        others = {name: other.entry(state, split.test) for name, other in evaluators.items()}
        phase.text = f"{len(split.test):,} test examples"
    predictions = {
        part: evaluator.predictions(scores, split.parts()[part])
        for part, scores in (("validation", validation), ("test", test))
        if scores is not None
    }
    on_validation = predictions.get("validation")
    tests = {} if test is None else {"clean": results.test_entry(test, predictions["test"]), **others}
    auxiliary = models.count_parameters(models.auxiliary_part(run.state.params))
    trained = parameters = models.count_parameters(run.state.params) - auxiliary
    if config.transfer.freeze_backbone:
        assert network.parts is not None
        trained = models.count_parameters(network.parts.split(run.state.params)[0])
    # Only process 0 writes metrics.jsonl, and only its result is stored.
    metrics = read_regular(run.workdir / METRICS) if run.devices.is_process_zero else b""
    result: results.Result = {
        "schema_version": results.SCHEMA_VERSION,
        "name": config.name,
        "entry": config.entry,
        "model": config.model.name,
        "truncate_after": config.model.truncate_after,
        "weights": config.transfer.weights,
        "pretrained_on": config.transfer.pretrained_on,
        "freeze_backbone": config.transfer.freeze_backbone,
        "parameters": parameters,
        "auxiliary_parameters": auxiliary,
        "on_cached_features": data.features is not None,
        "features_seconds": data.features_seconds,
        "trained_parameters": trained,
        "data": config.data.name,
        "split": split.name,
        "split_sha256": sha256(data.split_csv),
        "groups": config.data.groups,
        "given_groups": data.has_given_groups,
        "group_level": config.data.group_level,
        "leakage": leakage.as_result(),
        "fold": [config.data.fold, config.data.folds] if config.data.folds else None,
        "image_size": config.data.image_size if data.source.kind == "image" else None,
        "epochs": int(run.epoch) if run.epoch.is_integer() else round(run.epoch, 4),
        "seed": config.seed,
        "batch_size": config.train.batch_size,
        "overrides": [f"{name}={value!r}" for name, value in overrides.items()],
        "command": command,
        "implementation": environment.implementation(config),
        **results.summary_of(tests),
        "tests": tests,
        "validation_accuracy": validation.accuracy if isinstance(validation, ClassScores) else None,
        "temperature": None if on_validation is None else on_validation.fit_temperature(),
        "train_accuracy": run.last_epoch.get("accuracy") if run.last_epoch else None,
        "curves": "metrics.jsonl",
        "seconds": run.seconds,
        "images_per_second": median_speed(metrics),
        "hardware": xla.hardware(),
        "versions": environment.versions(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "stopped_early": run.stop_reason,
        "step": tested,
        "not_bit_exact": run.not_bit_exact,
        "complete": True,
        "note": config.note,
    }
    if run.devices.is_process_zero:
        contents: dict[str, str | bytes] = {
            predictions_name(part): stored.to_bytes()
            for part, stored in predictions.items()
            if stored is not None
        }
        contents[results.RESULT] = results.to_json(result)  # last: it marks the run as finished
        workdir.write_files(run.workdir, contents, final=(METRICS,))
    return result


def median_speed(metrics: bytes, *, last: int = 0) -> float | None:
    """The median training speed in images per second of a metrics.jsonl, or None.

    Only the `last` lines count; 0 counts all. The median is robust to hours in which the machine was busy.
    """
    lines = [line for line in read_lines(metrics) if line["split"] == "train"]
    speeds = [line["images_per_second"] for line in lines if "images_per_second" in line]
    return statistics.median(speeds[-last:]) if speeds else None
