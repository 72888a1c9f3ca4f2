"""Compares implementations of max pooling and batch normalization: forward and gradient in one call."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.clock import Clock
from benchmarks.conv_implementations import LAX, measure_implementations
from benchmarks.measure import check_outputs_match
from benchmarks.schema import BenchRow
from benchmarks.worker import Worker
from jaxnets.ops import cpu_pooling
from jaxnets.ops.cpu_kernels import Implementation, Kernels, in_use
from jaxnets.ops.functional import max_pool
from jaxnets.ops.normalization import batch_norm
from jaxnets.ops.windows import Windows, pair
from studies.pages.performance_page import KERNELS

FORWARD_AND_GRADIENT = "forward and gradient"
CUSTOM_VJP = "written gradient"
"""Our custom gradient in JAX, used without the kernels; the others are LAX (autodiff) and KERNELS."""
EPSILON = 1e-5

Apply = Callable[..., jax.Array]


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """Max pooling of square images."""

    size: int
    channels: int
    window: int
    stride: int = 2
    padding: int = 0
    batch: int = 16

    @property
    def name(self) -> str:
        """The row's name."""
        window = f"{self.window}x{self.window}/{self.stride}"
        return f"layers/max_pool/{self.size}px/{self.channels}/{window}/{self.batch}"

    def functions(self, kernels: Kernels | None) -> dict[str, Apply]:
        """Returns functions of the images, by implementation."""
        windows = self._windows()
        found: dict[str, Apply] = {
            LAX: functools.partial(
                max_pool,
                window=(self.window, self.window),
                strides=windows.strides,
                padding=windows.padding,
                implementation="xla",
            ),
            CUSTOM_VJP: functools.partial(cpu_pooling.max_pool, windows=windows, kernels=None),
        }
        if kernels is not None:
            found[KERNELS] = functools.partial(cpu_pooling.max_pool, windows=windows, kernels=kernels)
        return found

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Returns images with many equal pixels, as after a ReLU."""
        return (np.maximum(_noise((self.batch, self.size, self.size, self.channels)), 0),)

    def output_shape(self) -> tuple[int, ...]:
        """Returns the shape of the pooled images."""
        return (self.batch, *self._windows().output_size, self.channels)

    def _windows(self) -> Windows:
        padding = pair(self.padding)
        return Windows(pair(self.size), pair(self.window), pair(self.stride), (padding, padding))


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """Batch normalization of square images."""

    size: int
    channels: int
    batch: int = 16

    @property
    def name(self) -> str:
        """The row's name."""
        return f"layers/batch_norm/{self.size}px/{self.channels}/{self.batch}"

    def functions(self, kernels: Kernels | None) -> dict[str, Apply]:
        """Returns functions of the images, the scale and the bias, by implementation."""
        implementations: dict[str, Implementation] = {LAX: "xla", CUSTOM_VJP: "by_shape"}
        if kernels is not None:
            implementations[KERNELS] = kernels
        return {
            name: functools.partial(_batch_norm, implementation)
            for name, implementation in implementations.items()
        }

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Returns images, scale and bias."""
        channel = (self.channels,)
        return _noise(self.output_shape()), 1 + _noise(channel) / 4, _noise(channel)

    def output_shape(self) -> tuple[int, ...]:
        """Returns the shape of the normalized images."""
        return (self.batch, self.size, self.size, self.channels)


Layer = MaxPool | BatchNorm
LAYERS: tuple[Layer, ...] = (
    *(MaxPool(size, 64, 3, padding=1) for size in (112, 32)),
    MaxPool(32, 64, 3, batch=64),
    MaxPool(24, 6, 2, batch=64),
    *(BatchNorm(size, channels) for size, channels in ((56, 64), (16, 256), (4, 1024))),
    BatchNorm(61, 32),
)
"""From ResNet-50 at 224 and 64 px, AlexNet, LeNet-5, and Inception v3 at 128 px."""


class LayerImplementations:
    """All implementations of a layer, compiled."""

    def __init__(self, shared: None, *, layer: Layer):
        del shared
        self._name = layer.name
        arrays = tuple(map(jax.device_put, layer.arrays()))
        # Another seed: a gradient proportional to the images nearly vanishes in batch normalization.
        gradient = jax.device_put(_noise(layer.output_shape(), seed=1))
        self._calls: dict[str, Callable[[], Any]] = {}
        self._clocks: dict[str, Clock] = {}
        for name, apply in layer.functions(in_use()).items():
            compiled = (
                jax.jit(functools.partial(_forward_and_gradient, apply)).lower(gradient, *arrays).compile()
            )
            self._calls[name] = functools.partial(compiled, gradient, *arrays)

    def implementations(self) -> dict[str, list[str]]:
        """Returns the implementations; raises CheckFailedError if values or gradients disagree."""
        outputs = {name: jax.tree.leaves(call()) for name, call in self._calls.items()}
        for name, output in outputs.items():
            for expected, actual in zip(outputs[LAX], output, strict=True):
                check_outputs_match(self._name, name, np.asarray(expected), np.asarray(actual))
        return {FORWARD_AND_GRADIENT: list(self._calls)}

    def chosen(self) -> dict[str, str]:
        """Returns what is used without the kernels."""
        return {FORWARD_AND_GRADIENT: CUSTOM_VJP}

    def measure(self, passes: str, name: str, seconds: float) -> float:
        """Returns calls per second."""
        assert passes == FORWARD_AND_GRADIENT
        if name not in self._clocks:
            call = self._calls[name]
            self._clocks[name] = Clock(lambda: jax.block_until_ready(call()))
        return self._clocks[name].rate(seconds)


def measure(
    layer: Layer,
    *,
    rounds: int,
    seconds: float,
    kernels: Path | None,
    worker_class: Callable[..., Any] = Worker,
) -> Iterator[BenchRow]:
    """Yields a row that compares our gradient in JAX, autodiff and the C++ kernels."""
    make = functools.partial(LayerImplementations, layer=layer)
    with worker_class(make, None, keep_memory=True, kernels=kernels) as worker:
        for _, row in measure_implementations(worker, rounds=rounds, seconds=seconds):
            yield {**row, "name": layer.name, "unit": "calls"}


def _forward_and_gradient(apply: Apply, gradient: jax.Array, *arrays: jax.Array) -> Any:
    value, vjp = jax.vjp(apply, *arrays)
    return value, vjp(gradient)


def _noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _batch_norm(implementation: Implementation, x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    return batch_norm(x, scale, bias, EPSILON, implementation=implementation)[0]
