"""Workloads of jaxnets: training step, inference, input pipelines from JPEGs and from the cache."""

import copy
import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict
from PIL import Image

from benchmarks import depthwise
from benchmarks.clock import WARMUP_BATCHES, Clock
from benchmarks.jax_model import build, make_config, random_batch
from benchmarks.worker import process_peak_memory
from jaxnets import config as config_lib
from jaxnets import models, ops
from jaxnets.data.cache import CachedSource, gather
from jaxnets.data.sources.image_folder import ImageFolder
from jaxnets.errors import CheckFailedError, DataError
from jaxnets.experiment import environment
from jaxnets.experiment.data import open_dataset, with_cache
from jaxnets.interop.convert import to_torch
from jaxnets.runtime import xla
from jaxnets.training.devices import Devices
from jaxnets.training.optimizer import set_multiplier
from jaxnets.training.preprocess import make_preprocess

CHECKED_IMAGES = 8
"""Number of images that the implementations of an input pipeline must read identically."""
LOSS_DROP = 0.02
"""Fraction by which an SGD step lowers the loss in `TrainingWorkload.losses`; momentum doubles it."""

MIN_SPREAD = 1e-3
"""Smallest range of a logit over the batch, relative to the largest logit, that lets outputs be compared."""


class MachineInfo:
    """Describes the machine. Runs in its own process, since JAX reserves the devices that it lists."""

    def __init__(self, shared: None):
        del shared

    def describe(self) -> tuple[str, dict[str, str]]:
        """Returns a description of the hardware and the versions of the packages."""
        return xla.hardware(), environment.versions()

    def platform(self) -> str:
        """Returns "cpu", "gpu" or "tpu"."""
        return jax.default_backend()


def forward_flops(network: Any, inputs: jax.Array) -> float:
    """Returns the operations of a forward pass for one image, as XLA counts them, with its own operations."""
    network = network.clone(implementation="xla")
    apply = functools.partial(network.apply, train=False)
    shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x), inputs[:1])
    # Lowered for GPUs, where XLA's own operations are used, which it can count.
    lowered = jax.jit(apply).trace(shapes, inputs[:1]).lower(lowering_platforms=("cuda",))
    return float((lowered.cost_analysis() or {}).get("flops", math.nan))


def matmul_rate(dtype: str | None, *, size: int | None = None, seconds: float = 1.0) -> float:
    """Returns operations per second in a product of two square matrices on this device."""
    size = size or (8192 if jax.default_backend() != "cpu" else 1024)
    factor = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype or "float32")
    multiply = jax.jit(jnp.matmul).lower(factor, factor).compile()
    product: list[Any] = [factor]

    def step() -> None:
        product[0] = multiply(factor, factor)

    rate = Clock(step, lambda: jax.block_until_ready(product[0])).rate(seconds)
    return 2 * size**3 * rate


def peak_memory(device: jax.Device) -> int | None:
    """Returns the peak memory of arrays on a device, of this process on a CPU, in bytes; None if unknown."""
    statistics = device.memory_stats()
    return statistics["peak_bytes_in_use"] if statistics else process_peak_memory()


class NetworkWorkload:
    """A network with its initial weights and one batch of noise."""

    def __init__(
        self,
        shared: None,
        *,
        network: str,
        image_size: int,
        batch_size: int,
        compute_dtype: str | None = None,
        learning_rate: float | None = None,
    ):
        del shared
        if network == depthwise.NAME:
            depthwise.register()
        self.config = make_config(network, image_size, batch_size)
        if learning_rate is not None:
            self.config.optimizer.learning_rate = learning_rate
        self.float32_model = models.create(self.config.model)
        self.config.model.compute_dtype = compute_dtype
        self.built = build(self.config)
        self.batch = random_batch(self.config, seed=0)
        self._variables = jax.device_get(self.built.state.variables())

    def shared_data(self) -> dict[str, Any]:
        """Returns the config, the initial weights by PyTorch name, and the batch."""
        network, arrays = self.config.model.name, {}
        for tree in self._variables.values():
            arrays |= depthwise.to_torch(tree) if network == depthwise.NAME else to_torch(network, tree)
        return {"config": self.config, "arrays": arrays, "batch": self.batch}

    def outputs(self) -> np.ndarray:
        """Returns the initial network's logits of the batch in full single precision."""
        apply = functools.partial(self.float32_model.apply, train=False)
        with jax.default_matmul_precision("highest"):
            return np.asarray(jax.jit(apply)(self._variables, self.inputs()))

    def peak_memory(self) -> int | None:
        """Returns the peak memory of the GPU or of the process in bytes."""
        return peak_memory(jax.local_devices()[0])

    def flop_rates(self) -> dict[str, float]:
        """Returns operations per image, and operations per second of a large matrix product."""
        return {
            "operations_per_image": self.flops_per_image(),
            "operations_per_second_of_a_product": matmul_rate(self.config.model.compute_dtype),
        }

    def flops_per_image(self) -> float:
        """Returns operations per image; a training step counts as three forward passes."""
        passes = 3 if isinstance(self, TrainingWorkload) else 1
        return passes * forward_flops(self.float32_model, self.inputs())

    def inputs(self) -> jax.Array:
        """Returns the preprocessed batch, [B, H, W, C]."""
        return make_preprocess(self.config, train=False)(self.batch, jax.random.key(0))[0]

    def logits(self, variables: dict[str, Any], inputs: jax.Array) -> jax.Array:
        """Returns logits in inference mode, [B, classes]."""
        logits: Any = self.built.model.apply(variables, inputs, train=False)
        return logits


class TrainingWorkload(NetworkWorkload):
    """The compiled training step with donated buffers."""

    def __init__(self, shared: None, **shape: Any):
        super().__init__(shared, **shape)
        devices = Devices.all()
        self._device_batch = devices.shard_batch(self.batch)
        numbers = devices.replicate(jax.tree.map(jnp.asarray, self.built.numbers))
        self._step = devices.compile_step(self.built.step_with, donate=True, shared=(numbers,))
        self._state = devices.replicate(self.built.state)
        self._metrics: Any = None
        self._clock = Clock(self.take_step, self.wait)

    def measure(self, seconds: float) -> float:
        """Returns images per second; raises CheckFailedError if the loss is not finite."""
        speed = self.config.train.batch_size * self._clock.rate(seconds)
        if not np.isfinite(float(self._metrics["loss"])):
            raise CheckFailedError(f"{self.config.model.name}: our loss is not finite")
        return speed

    def losses(self, lr_fraction: float | None = None) -> tuple[np.ndarray, float]:
        """Returns the training losses before and after an update, [2], and the fraction of the learning rate.

        By default the fraction is such that the loss falls by 2 to 4 %: at the full learning rate a deep
        network's next loss depends on rounding. Dropout is disabled, since libraries draw other masks.
        """
        config = copy.deepcopy(self.config)
        config.model.dropout = config.model.auxiliary_dropout = 0.0
        step = self._step
        if models.create(config.model) != self.built.model:
            step = Devices.all().compile_step(build(config).train_step, donate=True)

        def update(lr_fraction: float) -> tuple[float, float]:
            opt_state = set_multiplier(self._state.opt_state, lr_fraction)
            state = dataclasses.replace(self._state, opt_state=opt_state)
            self._state, metrics = step(state, self._device_batch)
            mean = metrics["loss"] / metrics["weight_sum"]
            return float(mean), float(metrics["gradient_norm"])

        before, norm = update(0.0)
        if lr_fraction is None:
            lr_fraction = LOSS_DROP * before / (self.config.optimizer.learning_rate * norm**2)
        update(lr_fraction)
        after, _ = update(1.0)
        return np.array([before, after]), lr_fraction

    def take_step(self) -> None:
        """Dispatches one step."""
        self._state, self._metrics = self._step(self._state, self._device_batch)

    def program(self) -> str:
        """Returns the compiled step as text; at least one step must have been run."""
        return self._step.compile(self._state, self._device_batch).as_text()

    def wait(self) -> None:
        """Waits for dispatched steps."""
        jax.block_until_ready((self._state, self._metrics))


class InferenceWorkload(NetworkWorkload):
    """The compiled network in inference mode, on normalized images.

    With the initial running statistics, the activations of Inception v1 vanish, and its logits do not depend
    on the image. It gets the statistics of the batch. Other networks do not: in a ResNet-50 with random
    weights and these statistics, rounding changes logits by 6e-5 of the largest.
    """

    def __init__(self, shared: None, **shape: Any):
        super().__init__(shared, **shape)
        self._float32_logits = super().outputs()
        if np.ptp(self._float32_logits, axis=0).max() < MIN_SPREAD * np.abs(self._float32_logits).max():
            self._variables = self._with_statistics_of_batch()
            self._float32_logits = super().outputs()
        fold = jax.jit(functools.partial(models.fold_batch_norm, self.built.model))
        self._inputs = jax.device_put((fold(self._variables, self.inputs()), self.inputs()))
        self._apply = jax.jit(self.logits).lower(*self._inputs).compile()
        self._logits: Any = None
        self._clock = Clock(self.take_step, self.wait)

    def _with_statistics_of_batch(self) -> dict[str, Any]:
        """Returns the variables with the batch's mean and variance of each channel."""

        def statistics(variables: dict[str, Any], inputs: jax.Array) -> Any:
            zeros = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
            _, updated = self.float32_model.apply(
                {**variables, "batch_stats": zeros},
                inputs,
                train=True,
                mutable="batch_stats",
                rngs={"dropout": jax.random.key(0)},
            )
            return jax.tree.map(lambda value: value / ops.BatchNorm.momentum, updated["batch_stats"])

        found = jax.jit(statistics)(self._variables, self.inputs())
        return {**self._variables, "batch_stats": jax.device_get(found)}

    def outputs(self) -> np.ndarray:
        """Returns the network's logits of the batch in full single precision."""
        return self._float32_logits

    def measured_outputs(self) -> np.ndarray:
        """Returns the logits of the program that is measured."""
        self.take_step()
        return np.asarray(self._logits, np.float32)

    def measure(self, seconds: float) -> float:
        """Returns images per second."""
        return self.config.train.batch_size * self._clock.rate(seconds)

    def take_step(self) -> None:
        """Dispatches one batch."""
        self._logits = self._apply(*self._inputs)

    def program(self) -> str:
        """Returns the compiled network as text."""
        return self._apply.as_text() or ""

    def wait(self) -> None:
        """Waits for dispatched batches."""
        jax.block_until_ready(self._logits)


class PipelineWorkload:
    """Training batches on the host, from JPEGs or from the cache of decoded images."""

    def __init__(self, shared: Any, *, images: Path, image_size: int, batch_size: int, cache: bool):
        del shared
        _check_image_size(images, image_size)
        config = pipeline_config(images, image_size, batch_size, cache=cache)
        self._data = with_cache(config, open_dataset(config))
        self._images, self._batch_size = images, batch_size
        self._batches = self._data.train_batches(Devices.all().shard)
        self._batches.next_batches()
        self._clock = Clock(self._batches.next_batches, warmup=WARMUP_BATCHES)

    def shared_data(self) -> dict[str, Any]:
        """Returns the files or memory map of the images, their labels, and the batch size."""
        source = self._data.source
        shared: dict[str, Any] = {"labels": source.labels, "batch_size": self._batch_size}
        if isinstance(source, CachedSource):
            assert isinstance(source.images, np.memmap)
            return {**shared, "memory_map": source.images.filename}
        return {**shared, "files": [str(self._images / file) for file in source.files]}

    def outputs(self) -> np.ndarray:
        """Returns the first images."""
        return gather(self._data.source, np.arange(CHECKED_IMAGES))["image"].astype(np.float32)

    def measure(self, seconds: float) -> float:
        """Returns images per second."""
        return self._batch_size * self._clock.rate(seconds)


def pipeline_config(images: Path, image_size: int, batch_size: int, *, cache: bool) -> config_dict.ConfigDict:
    """Returns a config that trains on all images of a folder, with a cache next to the folder."""
    config = config_lib.default_config()
    config.model.name = "resnet50"
    config.data.name = "image_folder"
    config.data.path = str(images)
    config.data.image_size = image_size
    config.data.cache = cache
    config.data.cache_root = str(images.with_name(images.name + "-cache"))
    config.data.fractions = (1.0, 0.0, 0.0)
    config.train.batch_size = batch_size
    config.train.drop_last = True
    return config


def _check_image_size(images: Path, size: int) -> None:
    """Raises DataError unless every image has the given size, so that resizing is not measured."""
    source = ImageFolder(images)
    for file in source.files:
        with Image.open(images / file) as image:
            if image.size != (size, size):
                raise DataError(
                    f"{images / file} is {image.size[0]} x {image.size[1]}: the pipeline suite needs "
                    f"images of one size, {size} px"
                )
