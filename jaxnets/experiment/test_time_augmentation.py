"""Evaluates the mean probabilities over the eight turns and mirrors of each image."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from jaxnets.data.dataset import Dataset
from jaxnets.data.sources.base import Batch
from jaxnets.evaluation.predictions import ClassScores
from jaxnets.evaluation.turns import TURNS, turn
from jaxnets.experiment.evaluator import InferenceState, make_evaluator
from jaxnets.training.devices import Devices
from jaxnets.training.loss import make_loss
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.step import TrainState


def evaluate_turns(
    config: config_dict.ConfigDict,
    model: nn.Module,
    data: Dataset,
    devices: Devices,
    state: TrainState | InferenceState,
    indices: np.ndarray,
) -> ClassScores:
    """Scores of the mean probabilities over the eight turns and mirrors of the images at `indices`."""
    normalised = make_preprocess(config, train=False)
    turns = [functools.partial(turn, number=number) for number in range(TURNS)]

    def preprocess(batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        turned = jax.lax.switch(batch["turn"][0], turns, batch["image"])
        return normalised({**batch, "image": turned}, key)

    evaluator = make_evaluator(config, model, data, devices, preprocess=preprocess)
    total = np.zeros((len(indices), len(data.source.classes)))
    for number in range(TURNS):
        scores = evaluator(state, indices, {"turn": np.int32(number)})
        assert isinstance(scores, ClassScores)
        assert scores.probabilities is not None
        total += scores.probabilities
    return _score(config, data, total / TURNS, data.source.labels[indices])


def _score(
    config: config_dict.ConfigDict, data: Dataset, probabilities: np.ndarray, labels: np.ndarray
) -> ClassScores:
    """Scores of probabilities float64[N, K]."""
    classes = probabilities.shape[1]
    logits = jnp.log(jnp.maximum(probabilities, np.finfo(np.float32).tiny))
    loss = make_loss(config.train, class_counts=data.class_counts)
    terms = loss(
        logits, jax.nn.one_hot(labels, classes, dtype=logits.dtype), jnp.ones(len(labels), logits.dtype)
    )
    total = float(terms.total) / (1 if terms.weight_sum is None else float(terms.weight_sum))
    return ClassScores.of(probabilities, labels, total)
