"""Compares implementations of convolution; ops/cpu_passes.py selects by these measurements."""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.clock import Clock
from benchmarks.measure import check_outputs_match
from benchmarks.schema import BenchRow
from benchmarks.worker import PEAK_MEMORY, Worker
from jaxnets.ops import cpu, cpu_passes
from jaxnets.ops.cpu_kernels import in_use
from jaxnets.ops.windows import Pair, Windows, pair
from studies.pages.performance_page import KERNELS, PRODUCT

PASSES = ("forward", "input_gradient", "kernel_gradient")
LAX, COLUMNS, TAPS = "lax", "columns", "taps"
"""Implementations in JAX; the others are KERNELS and PRODUCT.

PRODUCT is a matrix product with as many operations: an upper bound of the speed.
"""


@dataclasses.dataclass(frozen=True)
class Shape:
    """A convolution of square images. Window and padding are a number or (height, width)."""

    size: int
    channels_in: int
    channels_out: int
    window: int | Pair
    stride: int = 1
    padding: int | Pair = 0
    batch: int = 16

    @property
    def name(self) -> str:
        """The shape's part of a row name."""
        channels = f"{self.channels_in}-{self.channels_out}"
        height, width = self.windows.window
        return f"{self.size}px/{channels}/{height}x{width}/{self.stride}/{self.batch}"

    @property
    def windows(self) -> Windows:
        """Window, stride and symmetric padding."""
        down, across = pair(self.padding)
        padding = ((down, down), (across, across))
        return Windows(pair(self.size), pair(self.window), pair(self.stride), padding)


SHAPES = (
    *(Shape(size, 64, 64, 3, 1, 1) for size in (56, 16)),
    *(Shape(size, 128, 128, 3, 1, 1) for size in (28, 8)),
    *(Shape(size, 256, 256, 3, 1, 1) for size in (14, 4)),
    *(Shape(size, 512, 512, 3, 1, 1) for size in (7, 2)),
    *(Shape(size, 256, 256, 3, 2, 1) for size in (28, 8)),
    *(Shape(size, 3, 64, 7, 2, 3) for size in (224, 64)),
    *(Shape(size, wide, narrow, 1) for size, wide, narrow in ((56, 256, 64), (14, 1024, 256))),
    *(Shape(size, wide, narrow, 1) for size, wide, narrow in ((16, 256, 64), (4, 1024, 256))),
    Shape(28, 1, 6, 5, batch=64),
    Shape(12, 6, 16, 5, batch=64),
    # Just below and above MIN_PIXELS_FOR_POINTWISE_KERNEL_GRADIENT: 784 and 1,024 pixels.
    Shape(7, 2048, 512, 1),
    Shape(8, 512, 128, 1),
    Shape(32, 128, 32, 3, 1, 1),
    Shape(13, 32, 48, 3, 1, 1),
    Shape(13, 48, 64, 5, 1, 2),
    Shape(6, 192, 192, (1, 7), 1, (0, 3)),
    Shape(6, 192, 192, (7, 1), 1, (3, 0)),
    Shape(17, 128, 160, (1, 7), 1, (0, 3)),
    Shape(17, 160, 192, (7, 1), 1, (3, 0)),
)
"""From ResNet-50 at 224 and 64 px, LeNet-5, DenseNet-121 and Inception at 128 px.

Those of 17 px are from Inception-ResNet v2 at 299 px.
"""


class ConvImplementations:
    """All implementations of the three passes of a convolution, compiled."""

    def __init__(self, shared: None, *, shape: Shape):
        del shared
        self._shape = shape
        arrays = _arrays(shape)
        self._calls: dict[str, dict[str, Any]] = {name: {} for name in PASSES}
        self._clocks: dict[tuple[str, str], Clock] = {}
        for (name, implementation), (function, inputs) in _functions(*arrays, shape.windows).items():
            compiled = jax.jit(function).lower(*inputs).compile()
            self._calls[name][implementation] = functools.partial(compiled, *inputs)
        for name, factors in _factors(shape, *arrays).items():
            compiled = jax.jit(jnp.matmul).lower(*factors).compile()
            self._calls[name][PRODUCT] = functools.partial(compiled, *factors)
        self._chosen = _chosen(*arrays, shape.windows)
        _, kernel, gradient = arrays
        self._flops = 2 * gradient.size * kernel.size // shape.channels_out

    def implementations(self) -> dict[str, list[str]]:
        """Returns the implementations by pass; raises CheckFailedError if those of a pass disagree."""
        for name, calls in self._calls.items():
            outputs = {implementation: np.asarray(call()) for implementation, call in calls.items()}
            del outputs[PRODUCT]
            for implementation, output in outputs.items():
                check_outputs_match(f"ops/{self._shape.name}/{name}", implementation, outputs[LAX], output)
        return {name: list(calls) for name, calls in self._calls.items()}

    def chosen(self) -> dict[str, str]:
        """Returns what ops/cpu_passes.py uses without the kernels, by pass."""
        return self._chosen

    def measure(self, name: str, implementation: str, seconds: float) -> float:
        """Returns floating point operations per second."""
        call, key = self._calls[name][implementation], (name, implementation)
        if key not in self._clocks:
            self._clocks[key] = Clock(lambda: jax.block_until_ready(call()))
        return self._flops * self._clocks[key].rate(seconds)


def _arrays(shape: Shape) -> tuple[jax.Array, jax.Array, jax.Array]:
    generator = np.random.default_rng(0)

    def noise(*size: int) -> jax.Array:
        return jax.device_put(generator.standard_normal(size, np.float32))

    windows = shape.windows
    return (
        noise(shape.batch, *windows.size, shape.channels_in),
        noise(*windows.window, shape.channels_in, shape.channels_out),
        noise(shape.batch, *windows.output_size, shape.channels_out),
    )


def _factors(
    shape: Shape, x: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Returns two matrices by pass whose product takes as many operations as the convolution."""
    pixels, patch = gradient.size // shape.channels_out, kernel.size // shape.channels_out
    generator = np.random.default_rng(1)

    def noise(*size: int) -> jax.Array:
        return jax.device_put(generator.standard_normal(size, np.float32))

    return {
        "forward": (noise(pixels, patch), noise(patch, shape.channels_out)),
        "input_gradient": (noise(pixels, shape.channels_out), noise(shape.channels_out, patch)),
        "kernel_gradient": (noise(patch, pixels), noise(pixels, shape.channels_out)),
    }


def _functions(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, windows: Windows
) -> dict[tuple[str, str], tuple[Callable[..., jax.Array], tuple[jax.Array, ...]]]:
    """Returns (function, inputs) by pass and implementation."""
    found: dict[tuple[str, str], Callable[..., jax.Array]] = {
        key: functools.partial(function, windows=windows)
        for key, function in {
            ("forward", LAX): cpu_passes.reference,
            ("forward", COLUMNS): cpu_passes.forward_by_columns,
            ("input_gradient", LAX): cpu_passes.input_gradient_by_lax,
            ("input_gradient", COLUMNS): cpu_passes.input_gradient_by_columns,
            ("kernel_gradient", LAX): cpu_passes.kernel_gradient_by_lax,
            ("kernel_gradient", TAPS): cpu_passes.kernel_gradient_by_taps,
        }.items()
    }
    kernels = in_use()
    if kernels is not None:
        apply = functools.partial(cpu.convolution, windows=windows, groups=1, kernels=kernels)
        found["forward", KERNELS] = lambda x, kernel: apply(x, kernel)
        found["input_gradient", KERNELS] = lambda kernel, gradient: jax.vjp(lambda x: apply(x, kernel), x)[1](
            gradient
        )[0]
        found["kernel_gradient", KERNELS] = lambda x, gradient: jax.vjp(
            lambda kernel: apply(x, kernel), kernel
        )[1](gradient)[0]
    inputs = {"forward": (x, kernel), "input_gradient": (kernel, gradient), "kernel_gradient": (x, gradient)}
    return {key: (function, inputs[key[0]]) for key, function in found.items()}


def _chosen(x: jax.Array, kernel: jax.Array, gradient: jax.Array, windows: Windows) -> dict[str, str]:
    """Reads the choice from the jaxprs of ops/cpu_passes.py, so that no threshold is repeated here."""
    passes = {
        "forward": (cpu_passes.forward, x, kernel),
        "input_gradient": (cpu_passes.input_gradient, kernel, gradient),
        "kernel_gradient": (cpu_passes.kernel_gradient, x, gradient),
    }
    programs = {
        name: jax.make_jaxpr(functools.partial(function, windows=windows))(*arrays)
        for name, (function, *arrays) in passes.items()
    }
    products = {"forward": COLUMNS, "input_gradient": COLUMNS, "kernel_gradient": TAPS}
    return {
        name: LAX if "conv_general_dilated" in str(program) else products[name]
        for name, program in programs.items()
    }


def measure(
    shape: Shape,
    *,
    rounds: int,
    seconds: float,
    kernels: Path | None,
    worker_class: Callable[..., Any] = Worker,
) -> Iterator[BenchRow]:
    """Yields a row per pass, which compares the implementations in JAX and the C++ kernels."""
    make = functools.partial(ConvImplementations, shape=shape)
    with worker_class(make, None, keep_memory=True, kernels=kernels) as worker:
        for name, row in measure_implementations(worker, rounds=rounds, seconds=seconds):
            yield {**row, "name": f"ops/{shape.name}/{name}", "unit": "operations"}


def measure_implementations(worker: Any, *, rounds: int, seconds: float) -> Iterator[tuple[str, BenchRow]]:
    """Yields (pass, row); the implementations of a pass are measured in alternating rounds."""
    implementations, chosen = worker.call("implementations"), worker.call("chosen")
    for name, names in implementations.items():
        speeds: dict[str, list[float]] = {implementation: [] for implementation in names}
        for _ in range(1 + rounds):
            for implementation in names:
                speeds[implementation].append(worker.call("measure", name, implementation, seconds))
        row = _row(chosen[name], {implementation: each[1:] for implementation, each in speeds.items()})
        yield name, {**row, "peak_memory": {"ours": worker.call(PEAK_MEMORY)}}


def _row(chosen: str, speeds: dict[str, list[float]]) -> BenchRow:
    (other,) = speeds.keys() - {chosen, KERNELS, PRODUCT}
    ratios = [a / b for a, b in zip(speeds[chosen], speeds[other], strict=True)]
    return {
        "name": "",
        "title": f"{chosen} against {other}",
        "ours": statistics.median(speeds[chosen]),
        "theirs": statistics.median(speeds[other]),
        "ratio": statistics.median(ratios),
        "dtype": "float32",
        "range": [min(ratios), max(ratios)],
        "rounds": len(ratios),
        "baseline": other,
        "chosen": chosen,
        "per_second": speeds,
    }
