"""Our sides of the rows: training step, inference, the pipelines on JPEGs and on the cache."""

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

from benchmarks.clock import UNTIMED_BATCHES, Clock
from benchmarks.jax_model import build, make_config, random_batch
from benchmarks.worker import process_peak_memory
from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.data.cache import CachedSource, gather
from jaxnets.data.sources.image_folder import ImageFolder
from jaxnets.errors import CheckFailedError, DataError
from jaxnets.experiment import environment
from jaxnets.experiment.data import open_dataset, with_cache
from jaxnets.interop.convert import to_torch
from jaxnets.runtime import xla
from jaxnets.runtime.console import Reporter
from jaxnets.training.devices import Devices
from jaxnets.training.optimizer import set_multiplier
from jaxnets.training.preprocess import make_preprocess

CHECKED_IMAGES = 8
"""How many images both sides of a pipeline row must read alike."""
LOSS_DROP = 0.02
"""The share of the loss by which a step along its gradient is to lower it; momentum doubles that."""


class Machine:
    """Asked in a process of its own: a process that has asked JAX for its devices holds them."""

    def __init__(self, shared: None):
        del shared

    def describe(self) -> tuple[str, dict[str, str]]:
        """A description of the hardware, and the versions of the packages."""
        return xla.hardware(), environment.versions()

    def platform(self) -> str:
        """What JAX computes on: "cpu", "gpu" or "tpu"."""
        return jax.default_backend()


def forward_operations(network: Any, inputs: jax.Array) -> float:
    """Operations of products and convolutions for one image, forward, as XLA counts its own forms."""
    apply = functools.partial(network.apply, train=False)
    shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x), inputs[:1])
    # For GPUs, where no form of ours takes the place of XLA's own, which it counts.
    lowered = jax.jit(apply).trace(shapes, inputs[:1]).lower(lowering_platforms=("cuda",))
    return float((lowered.cost_analysis() or {}).get("flops", math.nan))


def product_rate(dtype: str | None, *, side: int | None = None, seconds: float = 1.0) -> float:
    """Operations per second in a product of two square matrices on this device."""
    side = side or (8192 if jax.default_backend() != "cpu" else 1024)
    factor = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype or "float32")
    multiply = jax.jit(jnp.matmul).lower(factor, factor).compile()
    found: list[Any] = [factor]

    def once() -> None:
        found[0] = multiply(factor, factor)

    rate = Clock(once, lambda: jax.block_until_ready(found[0])).rate(seconds)
    return 2 * side**3 * rate


def peak_memory(device: jax.Device) -> int | None:
    """The most that arrays on a device took so far, or on a CPU this process, in bytes; None if not known."""
    statistics = device.memory_stats()
    return statistics["peak_bytes_in_use"] if statistics else process_peak_memory()


class NetworkSide:
    """A network of ours with its initial weights, and one batch that stays on the device."""

    def __init__(
        self,
        shared: None,
        *,
        network: str,
        image_size: int,
        batch_size: int,
        compute_dtype: str | None = None,
    ):
        del shared
        self.config = make_config(network, image_size, batch_size)
        self.exact = models.create(self.config.model)
        self.config.model.compute_dtype = compute_dtype
        self.ours = build(self.config)
        self.batch = random_batch(self.config, seed=0)
        self._variables = jax.device_get(self.ours.state.variables())

    def share(self) -> dict[str, Any]:
        """The config, the initial weights under PyTorch's names, and the batch."""
        arrays = {
            name: array
            for tree in self._variables.values()
            for name, array in to_torch(self.config.model.name, tree).items()
        }
        return {"config": self.config, "arrays": arrays, "batch": self.batch}

    def answer(self) -> np.ndarray:
        """The initial network's logits of the batch, in full single precision."""
        apply = functools.partial(self.exact.apply, train=False)
        with jax.default_matmul_precision("highest"):
            return np.asarray(jax.jit(apply)(self._variables, self.inputs()))

    def peak_memory(self) -> int | None:
        """The most that it held, in bytes, of the card or of the process."""
        return peak_memory(jax.local_devices()[0])

    def particulars(self) -> dict[str, float]:
        """Operations an image, and those that the device does a second in a product of large matrices."""
        return {
            "operations_per_image": self.operations_per_image(),
            "operations_per_second_of_a_product": product_rate(self.config.model.compute_dtype),
        }

    def operations_per_image(self) -> float:
        """Those of products and convolutions; a training step counts as three times the forward pass."""
        passes = 3 if isinstance(self, TrainingSide) else 1
        return passes * forward_operations(self.exact, self.inputs())

    def inputs(self) -> jax.Array:
        """The batch as the network takes it, [B, H, W, C]."""
        return make_preprocess(self.config, train=False)(self.batch, jax.random.key(0))[0]

    def logits(self, variables: dict[str, Any], inputs: jax.Array) -> jax.Array:
        """[B, classes]; nothing is trained."""
        logits: Any = self.ours.model.apply(variables, inputs, train=False)
        return logits


class TrainingSide(NetworkSide):
    """The compiled training step, buffers donated."""

    def __init__(self, shared: None, **shape: Any):
        super().__init__(shared, **shape)
        devices = Devices.all()
        self._placed = devices.shard_batch(self.batch)
        self._step = devices.compile_step(self.ours.train_step, donate=True)
        self._state = self.ours.state
        self._metrics: Any = None
        self._clock = Clock(self.take_step, self.wait)

    def measure(self, seconds: float) -> float:
        """Images per second; raises CheckFailedError where the loss is no longer finite."""
        speed = self.config.train.batch_size * self._clock.rate(seconds)
        if not np.isfinite(float(self._metrics["loss"])):
            raise CheckFailedError(f"{self.config.model.name}: our loss is not finite")
        return speed

    def losses(self, share: float | None = None) -> tuple[np.ndarray, float]:
        """The loss in training before and after an update by a `share` of the learning rate, [2]; the share.

        Where it is not given it is one by which the loss falls by two to four hundredths: at the full rate a
        deep network's next loss depends on every rounding. Steps are the measured ones, but where the
        network drops units: then of a program that drops none, since no two libraries draw the same ones.
        """
        whole = copy.deepcopy(self.config)
        whole.model.dropout = whole.model.auxiliary_dropout = 0.0
        step = self._step
        if models.create(whole.model) != self.ours.model:
            step = Devices.all().compile_step(build(whole).train_step, donate=True)

        def take(share: float) -> tuple[float, float]:
            opt_state = set_multiplier(self._state.opt_state, share)
            state = dataclasses.replace(self._state, opt_state=opt_state)
            self._state, metrics = step(state, self._placed)
            mean = metrics["loss"] / metrics["weight_sum"]
            return float(mean), float(metrics["gradient_norm"])

        before, norm = take(0.0)
        if share is None:
            share = LOSS_DROP * before / (self.config.optimizer.learning_rate * norm**2)
        take(share)
        after, _ = take(1.0)
        return np.array([before, after]), share

    def take_step(self) -> None:
        """One step; it may still be under way."""
        self._state, self._metrics = self._step(self._state, self._placed)

    def program(self) -> str:
        """The compiled step; one was taken before."""
        return self._step.compile(self._state, self._placed).as_text()

    def wait(self) -> None:
        """Until the step is done."""
        jax.block_until_ready((self._state, self._metrics))


class InferenceSide(NetworkSide):
    """The compiled network without training, on normalised images."""

    def __init__(self, shared: None, **shape: Any):
        super().__init__(shared, **shape)
        placed = jax.device_put((self._variables, self.inputs()))
        self._apply = jax.jit(self.logits).lower(*placed).compile()
        self._placed = placed
        self._logits: Any = None
        self._clock = Clock(self.take_step, self.wait)

    def measure(self, seconds: float) -> float:
        """Images per second."""
        return self.config.train.batch_size * self._clock.rate(seconds)

    def take_step(self) -> None:
        """One batch; it may still be under way."""
        self._logits = self._apply(*self._placed)

    def program(self) -> str:
        """The compiled network."""
        return self._apply.as_text() or ""

    def wait(self) -> None:
        """Until the batch is done."""
        jax.block_until_ready(self._logits)


class PipelineSide:
    """Our training batches on the host, from JPEGs (decoded every time) or from the cache."""

    def __init__(self, shared: Any, *, images: Path, image_size: int, batch_size: int, cache: bool):
        del shared
        _require_size(images, image_size)
        config = pipeline_config(images, image_size, batch_size, cache=cache)
        reporter = Reporter(quiet=True)
        self._data = with_cache(config, open_dataset(config, reporter), reporter)
        self._images, self._batch_size = images, batch_size
        self._batches = self._data.train_batches(Devices.all().shard)
        self._batches.next_batches()
        self._clock = Clock(self._batches.next_batches, untimed=UNTIMED_BATCHES)

    def share(self) -> dict[str, Any]:
        """Where the images lie, decoded or not, and their labels."""
        source = self._data.source
        shared: dict[str, Any] = {"labels": source.labels, "batch_size": self._batch_size}
        if isinstance(source, CachedSource):
            assert isinstance(source.images, np.memmap)
            return {**shared, "memory_map": source.images.filename}
        return {**shared, "files": [str(self._images / file) for file in source.files]}

    def answer(self) -> np.ndarray:
        """The first images, as they are read."""
        return gather(self._data.source, np.arange(CHECKED_IMAGES))["image"].astype(np.float32)

    def measure(self, seconds: float) -> float:
        """Images per second."""
        return self._batch_size * self._clock.rate(seconds)


def pipeline_config(images: Path, image_size: int, batch_size: int, *, cache: bool) -> config_dict.ConfigDict:
    """A config that trains on all images of a folder; its cache lies beside the folder."""
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


def _require_size(images: Path, size: int) -> None:
    """Raises DataError unless every image has that size: nobody's resizing is to be measured."""
    source = ImageFolder(images)
    for file in source.files:
        with Image.open(images / file) as image:
            if image.size != (size, size):
                raise DataError(
                    f"{images / file} is {image.size[0]} x {image.size[1]}: the pipeline rows need "
                    f"images of one size, {size} px"
                )
