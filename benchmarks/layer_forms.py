"""The forms of max pooling and batch normalisation beside each other, forward and gradients in one call."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.clock import Clock
from benchmarks.measure import Entry, check_same
from benchmarks.ops_forms import LAX, measure_forms
from benchmarks.worker import Worker
from jaxnets.ops import cpu
from jaxnets.ops.cpu_kernels import Implementation, Kernels, in_use
from jaxnets.ops.functional import batch_norm, max_pool
from jaxnets.ops.windows import Windows
from studies.pages.performance_page import KERNELS

BOTH = "forward and gradient"
WRITTEN = "written gradient"
"""In JAX alone, taken where there are no kernels; beside it LAX, JAX's own gradient, and KERNELS."""
EPSILON = 1e-5

Apply = Callable[..., jax.Array]


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """Input pixels a side, channels, the window's side, stride, padding, batch."""

    size: int
    channels: int
    window: int
    stride: int = 2
    padding: int = 0
    batch: int = 16

    @property
    def name(self) -> str:
        """Of its row."""
        window = f"{self.window}x{self.window}/{self.stride}"
        return f"layers/max_pool/{self.size}px/{self.channels}/{window}/{self.batch}"

    def forms(self, kernels: Kernels | None) -> dict[str, Apply]:
        """By name, functions of the images."""
        windows = self._windows()
        found: dict[str, Apply] = {
            LAX: functools.partial(
                max_pool,
                window=(self.window, self.window),
                strides=windows.strides,
                padding=windows.padding,
                implementation="xla",
            ),
            WRITTEN: functools.partial(cpu.max_pool, windows=windows, kernels=None),
        }
        if kernels is not None:
            found[KERNELS] = functools.partial(cpu.max_pool, windows=windows, kernels=kernels)
        return found

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Images, many of whose pixels are equal, as after a ReLU."""
        return (np.maximum(_noise((self.batch, self.size, self.size, self.channels)), 0),)

    def result_shape(self) -> tuple[int, ...]:
        """Of the pooled images."""
        return (self.batch, *self._windows().output_size, self.channels)

    def _windows(self) -> Windows:
        sides = [(side, side) for side in (self.size, self.window, self.stride, self.padding)]
        size, window, strides, padding = sides
        return Windows(size, window, strides, (padding, padding))


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """Input pixels a side, channels, batch."""

    size: int
    channels: int
    batch: int = 16

    @property
    def name(self) -> str:
        """Of its row."""
        return f"layers/batch_norm/{self.size}px/{self.channels}/{self.batch}"

    def forms(self, kernels: Kernels | None) -> dict[str, Apply]:
        """By name, functions of the images, the scale and the bias."""
        forms: dict[str, Implementation] = {LAX: "xla", WRITTEN: "by_shape"}
        if kernels is not None:
            forms[KERNELS] = kernels
        return {name: functools.partial(_batch_norm_output, form) for name, form in forms.items()}

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Images, scale and bias."""
        channel = (self.channels,)
        return _noise(self.result_shape()), 1 + _noise(channel) / 4, _noise(channel)

    def result_shape(self) -> tuple[int, ...]:
        """Of the normalised images."""
        return (self.batch, self.size, self.size, self.channels)


def _batch_norm_output(form: Implementation, x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    return batch_norm(x, scale, bias, EPSILON, implementation=form)[0]


Layer = MaxPool | BatchNorm
LAYERS: tuple[Layer, ...] = (
    *(MaxPool(size, 64, 3, padding=1) for size in (112, 32)),
    MaxPool(32, 64, 3, batch=64),
    MaxPool(24, 6, 2, batch=64),
    *(BatchNorm(size, channels) for size, channels in ((56, 64), (16, 256), (4, 1024))),
    BatchNorm(61, 32),
)
"""ResNet-50's at 224 and 64 px, AlexNet's, LeNet-5's, and Inception v3's at 128 px."""


class LayerForms:
    """Every form of one layer, compiled."""

    def __init__(self, shared: None, *, layer: Layer):
        del shared
        self._name = layer.name
        arrays = tuple(map(jax.device_put, layer.arrays()))
        # Of another seed: a gradient that follows the images has nearly none behind batch normalisation.
        gradient = jax.device_put(_noise(layer.result_shape(), seed=1))
        self._calls: dict[str, Callable[[], Any]] = {}
        self._clocks: dict[str, Clock] = {}
        for form, apply in layer.forms(in_use()).items():
            compiled = jax.jit(functools.partial(_both, apply)).lower(gradient, *arrays).compile()
            self._calls[form] = functools.partial(compiled, gradient, *arrays)

    def forms(self) -> dict[str, list[str]]:
        """The forms, after a check that they agree in values and gradients."""
        answers = {form: jax.tree.leaves(call()) for form, call in self._calls.items()}
        for form, answer in answers.items():
            for expected, found in zip(answers[LAX], answer, strict=True):
                check_same(self._name, form, np.asarray(expected), np.asarray(found))
        return {BOTH: list(self._calls)}

    def chosen(self) -> dict[str, str]:
        """What is taken without the kernels."""
        return {BOTH: WRITTEN}

    def measure(self, name: str, form: str, seconds: float) -> float:
        """Calls per second."""
        assert name == BOTH
        if form not in self._clocks:
            call = self._calls[form]
            self._clocks[form] = Clock(lambda: jax.block_until_ready(call()))
        return self._clocks[form].rate(seconds)


def measure(
    layer: Layer, *, rounds: int, seconds: float, kernels: Path | None, start: Any = Worker
) -> Iterator[Entry]:
    """A row: the form that is taken in JAX alone against JAX's own gradient, and the kernels beside them."""
    make = functools.partial(LayerForms, layer=layer)
    options = {"rounds": rounds, "seconds": seconds, "kernels": kernels, "start": start}
    for _, entry in measure_forms(make, **options):
        yield {**entry, "name": layer.name, "unit": "calls"}


def _both(apply: Apply, gradient: jax.Array, *arrays: jax.Array) -> Any:
    value, pull_back = jax.vjp(apply, *arrays)
    return value, pull_back(gradient)


def _noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
