"""Evaluates the mean probabilities over the eight flips and rotations of each image."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from jaxnets.data.dataset import Dataset
from jaxnets.evaluation.predictions import ClassScores
from jaxnets.experiment.predictor import BATCH_SIZE, Predictor
from jaxnets.training.loss import make_loss


def evaluate_turns(
    config: config_dict.ConfigDict, predictor: Predictor, data: Dataset, indices: np.ndarray
) -> ClassScores:
    """Scores on `indices` of a predictor, with test-time augmentation."""
    batches = [
        predictor.probabilities(images, test_time_augmentation=True)
        for images in data.images(indices, BATCH_SIZE)
    ]
    probabilities, labels = np.concatenate(batches), data.source.labels[indices]
    logits = jnp.log(jnp.maximum(probabilities, np.finfo(np.float32).tiny))
    targets = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
    loss = make_loss(config.train, class_counts=data.class_counts)
    terms = loss(logits, targets, jnp.ones(len(labels), logits.dtype))
    total = float(terms.total) / (1 if terms.weight_sum is None else float(terms.weight_sum))
    return ClassScores.of(probabilities, labels, total)
