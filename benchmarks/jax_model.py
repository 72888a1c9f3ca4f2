"""Builds a network, its state and its training step from a config, for benchmarks and parity tests."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.data.batch import Batch
from jaxnets.data.cache import gather
from jaxnets.data.sources.points import Points
from jaxnets.errors import ConfigError
from jaxnets.experiment.network import hyperparameters, make_optimizer_bundle
from jaxnets.ops.cpu_kernels import Implementation
from jaxnets.training.loss import make_loss
from jaxnets.training.preprocess import make_preprocess
from jaxnets.training.step import Metrics, TrainState, make_train_step

CHANNELS = {"lenet5": 1}
CLASSES = {"lenet5": 10, "alexnet": 10}
"""Input channels and classes by network, as in the reports; 3 and 3 for others."""
VARIANTS = {"xception": "timm"}
"""The variant that a PyTorch library has, where that is not the default."""
WITHOUT_PYTORCH = ("nasnet_mobile",)
"""Networks of keras.applications only."""
MLP_CONFIG = Path(__file__).parents[1] / "configs" / "mlp_tanh.py"


@dataclasses.dataclass(frozen=True)
class ModelAndStep:
    """A network, its initial state, and its training step before compilation.

    Attributes:
      model: The network.
      state: Its initial state.
      numbers: Learning rate and other numbers of the optimizer.
      step_with: The training step, a function of state, batch and `numbers`.
    """

    model: nn.Module
    state: TrainState
    numbers: Any
    step_with: Callable[[TrainState, Batch, Any], tuple[TrainState, Metrics]]

    def train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Takes a training step in which `numbers` are constants."""
        return self.step_with(state, batch, self.numbers)


def make_config(network: str, image_size: int, batch_size: int) -> config_dict.ConfigDict:
    """Returns a config of SGD with momentum on images scaled to [-1, 1], without augmentation."""
    config = config_lib.default_config()
    config.model.name = network
    config.model.num_classes = CLASSES.get(network, 3)
    config.model.variant = VARIANTS.get(network)
    config.data.image_size = image_size
    config.data.mean = config.data.std = (0.5,) * CHANNELS.get(network, 3)
    config.train.batch_size = batch_size
    config.train.steps = 1
    config.train.auxiliary_weight = models.entry(network).auxiliary_weight
    config.optimizer.learning_rate = 0.01
    return config


def build(
    config: config_dict.ConfigDict,
    variables: dict[str, Any] | None = None,
    *,
    axis_name: str | None = None,
    implementation: Implementation = "auto",
) -> ModelAndStep:
    """Builds a config's network from `variables`, by default from its initialization."""
    model = models.create(config.model, axis_name=axis_name)
    if implementation != "auto":
        model = model.clone(implementation=implementation)
    if variables is None:
        variables = models.initialize(model, jax.random.key(config.seed), _input_shape(config))
    numbers = hyperparameters(config, total_steps=config.train.steps or 1, steps_per_epoch=1)
    make_bundle = functools.partial(make_optimizer_bundle, config, None, steps_per_epoch=1)
    make_step = functools.partial(
        make_train_step,
        model,
        make_loss(config.train),
        preprocess=make_preprocess(config, train=True),
        axis_name=axis_name,
    )

    def step_with(state: TrainState, batch: Batch, numbers: Any) -> tuple[TrainState, Metrics]:
        return make_step(optimizer=make_bundle(numbers).optimizer)(state, batch)

    state = TrainState.create(variables, make_bundle(numbers).optimizer, seed=config.seed)
    return ModelAndStep(model, state, numbers, step_with)


def mlp_config() -> config_dict.ConfigDict:
    """Returns report A's MLP, configs/mlp_tanh.py; raises ConfigError outside a checkout."""
    if not MLP_CONFIG.is_file():
        raise ConfigError(f"{MLP_CONFIG} does not exist: run the benchmarks from a checkout")
    return config_lib.load_config(str(MLP_CONFIG))


def points_batch() -> Batch:
    """Returns the four points of the MLP as one batch."""
    batch = gather(source := Points(), np.arange(len(source)))
    return {**batch, "epoch": np.zeros(len(source), np.int32), "weight": np.ones(len(source), np.float32)}


def _input_shape(config: config_dict.ConfigDict) -> tuple[int, ...]:
    """Returns the shape of a batch of one example."""
    if models.entry(config.model.name).kind == "vector":
        return (1, config.model.layer_sizes[0])
    return (1, config.data.image_size, config.data.image_size, len(config.data.mean))


def random_batch(config: config_dict.ConfigDict, seed: int) -> Batch:
    """Returns a training batch of noise."""
    generator = np.random.default_rng(seed)
    count, size = config.train.batch_size, config.data.image_size
    shape = (count, size, size, len(config.data.mean))
    return {
        "image": generator.integers(0, 256, shape, np.uint8),
        "label": generator.integers(0, config.model.num_classes, count, np.int32),
        "index": np.arange(count, dtype=np.int64),
        "epoch": np.zeros(count, np.int32),
        "weight": np.ones(count, np.float32),
    }
