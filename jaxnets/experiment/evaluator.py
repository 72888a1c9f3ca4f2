"""Evaluates a state on examples of a data set."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from ml_collections import config_dict

from jaxnets.data.dataset import Dataset
from jaxnets.evaluation import result as results
from jaxnets.evaluation.predictions import ClassScores, Predictions, Scores, evaluate
from jaxnets.training.devices import CompiledStep, Devices
from jaxnets.training.loss import make_loss
from jaxnets.training.preprocess import Preprocess, make_preprocess
from jaxnets.training.step import StoredExamples, TrainState, make_eval_step, with_on_device_gather


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Evaluates a state on examples of the data; padding is not counted."""

    step: CompiledStep
    data: Dataset
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
            for batch in self._batches(indices, extra or {}):
                before_batch()
                yield batch

        classes = len(self.data.source.classes)
        return evaluate(self.step, state, batches(), expected=len(indices), classes=classes)

    def _batches(self, indices: np.ndarray, extra: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        devices = self.devices
        for batch in self.data.eval_batches(
            indices, devices.shard, multiple_of=devices.count, on_device=self.on_device
        ):
            repeated = {name: np.repeat(value, len(batch["weight"])) for name, value in extra.items()}
            yield devices.shard_batch({**batch, **repeated})

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
    """An evaluator of the config's network.

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
