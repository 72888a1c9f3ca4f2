"""The forms of a convolution's passes beside each other: why ops/cpu.py chooses as it does."""

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
from benchmarks.measure import Entry, check_same
from benchmarks.worker import PEAK_MEMORY, Worker
from jaxnets.ops import cpu
from jaxnets.ops.cpu_kernels import in_use
from jaxnets.ops.windows import Pair, Windows, pair
from studies.pages.performance_page import KERNELS, PRODUCT

PASSES = ("forward", "input_gradient", "kernel_gradient")
LAX, COLUMNS = "lax", "columns"
"""Beside them KERNELS and PRODUCT.

The last is not a convolution but one matrix product of the same sizes: an upper bound.
"""


@dataclasses.dataclass(frozen=True)
class Shape:
    """A convolution: input pixels a side, channels, window, stride, padding, batch.

    Of window and padding one number is for both directions, two are down and across.
    """

    size: int
    channels_in: int
    channels_out: int
    window: int | Pair
    stride: int = 1
    padding: int | Pair = 0
    batch: int = 16

    @property
    def name(self) -> str:
        """As in a row's name."""
        channels = f"{self.channels_in}-{self.channels_out}"
        height, width = self.windows.window
        return f"{self.size}px/{channels}/{height}x{width}/{self.stride}/{self.batch}"

    @property
    def windows(self) -> Windows:
        """Where its window lies; the padding is the same on opposite sides."""
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
"""ResNet-50's at 224 and 64 px and LeNet-5's; from 32 px on DenseNet-121's and the Inceptions' at 128 px.

Those of 17 px are Inception-ResNet v2's at 299 px.
"""


class Forms:
    """Every form of every pass of one convolution, compiled."""

    def __init__(self, shared: None, *, shape: Shape):
        del shared
        self._shape = shape
        arrays = _arrays(shape)
        self._forms: dict[str, dict[str, Any]] = {name: {} for name in PASSES}
        self._clocks: dict[tuple[str, str], Clock] = {}
        for (name, form), (function, inputs) in _functions(*arrays, shape.windows).items():
            compiled = jax.jit(function).lower(*inputs).compile()
            self._forms[name][form] = functools.partial(compiled, *inputs)
        for name, factors in _factors(shape, *arrays).items():
            compiled = jax.jit(jnp.matmul).lower(*factors).compile()
            self._forms[name][PRODUCT] = functools.partial(compiled, *factors)
        self._chosen = _chosen(*arrays, shape.windows)
        _, kernel, gradient = arrays
        self._operations = 2 * gradient.size * kernel.size // shape.channels_out

    def forms(self) -> dict[str, list[str]]:
        """The forms by pass, after a check that those of a pass agree."""
        for name, forms in self._forms.items():
            answers = {form: np.asarray(call()) for form, call in forms.items()}
            del answers[PRODUCT]
            for form, answer in answers.items():
                check_same(f"ops/{self._shape.name}/{name}", form, answers[LAX], answer)
        return {name: list(forms) for name, forms in self._forms.items()}

    def chosen(self) -> dict[str, str]:
        """What ops/cpu.py takes in JAX, by pass."""
        return self._chosen

    def measure(self, name: str, form: str, seconds: float) -> float:
        """Operations per second."""
        call = self._forms[name][form]
        if (name, form) not in self._clocks:
            self._clocks[name, form] = Clock(lambda: jax.block_until_ready(call()))
        return self._operations * self._clocks[name, form].rate(seconds)


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
    """Two matrices by pass, whose product takes as many operations as the convolution."""
    pixels, taps = gradient.size // shape.channels_out, kernel.size // shape.channels_out
    generator = np.random.default_rng(1)

    def noise(*size: int) -> jax.Array:
        return jax.device_put(generator.standard_normal(size, np.float32))

    return {
        "forward": (noise(pixels, taps), noise(taps, shape.channels_out)),
        "input_gradient": (noise(pixels, shape.channels_out), noise(shape.channels_out, taps)),
        "kernel_gradient": (noise(taps, pixels), noise(pixels, shape.channels_out)),
    }


def _functions(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, windows: Windows
) -> dict[tuple[str, str], tuple[Callable[..., jax.Array], tuple[jax.Array, ...]]]:
    """(function, its arrays) by pass and form."""
    found: dict[tuple[str, str], Callable[..., jax.Array]] = {
        key: functools.partial(function, windows=windows)
        for key, function in {
            ("forward", LAX): cpu.reference,
            ("forward", COLUMNS): cpu.forward_by_columns,
            ("input_gradient", LAX): cpu.input_gradient_by_lax,
            ("input_gradient", COLUMNS): cpu.input_gradient_by_columns,
            ("kernel_gradient", LAX): cpu.kernel_gradient_by_lax,
            ("kernel_gradient", COLUMNS): cpu.kernel_gradient_by_columns,
        }.items()
    }
    kernels = in_use()
    if kernels is not None:
        apply = functools.partial(cpu.convolution, windows=windows, kernels=kernels)
        found["forward", KERNELS] = lambda x, kernel: apply(x, kernel)
        found["input_gradient", KERNELS] = lambda kernel, gradient: jax.vjp(lambda x: apply(x, kernel), x)[1](
            gradient
        )[0]
        found["kernel_gradient", KERNELS] = lambda x, gradient: jax.vjp(
            lambda kernel: apply(x, kernel), kernel
        )[1](gradient)[0]
    inputs = {
        "forward": (x, kernel),
        "input_gradient": (kernel, gradient),
        "kernel_gradient": (x, gradient),
    }
    return {key: (function, inputs[key[0]]) for key, function in found.items()}


def _chosen(x: jax.Array, kernel: jax.Array, gradient: jax.Array, windows: Windows) -> dict[str, str]:
    """Read off the programs of ops/cpu.py, so that no threshold is written twice."""
    passes = {
        "forward": (cpu.forward, x, kernel),
        "input_gradient": (cpu.input_gradient, kernel, gradient),
        "kernel_gradient": (cpu.kernel_gradient, x, gradient),
    }
    programs = {
        name: jax.make_jaxpr(functools.partial(function, windows=windows))(*arrays)
        for name, (function, *arrays) in passes.items()
    }
    return {
        name: LAX if "conv_general_dilated" in str(program) else COLUMNS for name, program in programs.items()
    }


def measure(
    shape: Shape, *, rounds: int, seconds: float, kernels: Path | None, start: Any = Worker
) -> Iterator[Entry]:
    """A row a pass: what is taken in JAX against the other form in JAX, and the C++ kernels beside them."""
    make = functools.partial(Forms, shape=shape)
    options = {"rounds": rounds, "seconds": seconds, "kernels": kernels, "start": start}
    for name, entry in measure_forms(make, **options):
        yield {**entry, "name": f"ops/{shape.name}/{name}", "unit": "operations"}


def measure_forms(
    make: Callable[[None], Any], *, rounds: int, seconds: float, kernels: Path | None, start: Any
) -> Iterator[tuple[str, Entry]]:
    """By pass of a side, the form that is taken against the other one in JAX; all in turns."""
    with start(make, None, keep_memory=True, kernels=kernels) as side:
        forms, chosen = side.call("forms"), side.call("chosen")
        for name in forms:
            speeds: dict[str, list[float]] = {form: [] for form in forms[name]}
            for _ in range(1 + rounds):
                for form in forms[name]:
                    speeds[form].append(side.call("measure", name, form, seconds))
            after_warm_up = {form: values[1:] for form, values in speeds.items()}
            entry = _entry(chosen[name], after_warm_up)
            yield name, {**entry, "peak_memory": {"ours": side.call(PEAK_MEMORY)}}


def _entry(chosen: str, speeds: dict[str, list[float]]) -> Entry:
    (other,) = speeds.keys() - {chosen, KERNELS, PRODUCT}
    ratios = [a / b for a, b in zip(speeds[chosen], speeds[other], strict=True)]
    return {
        "title": f"{chosen} against {other}",
        "ours": statistics.median(speeds[chosen]),
        "theirs": statistics.median(speeds[other]),
        "ratio": statistics.median(ratios),
        "ratio_tuned": None,
        "range": [min(ratios), max(ratios)],
        "rounds": len(ratios),
        "opponent": other,
        "chosen": chosen,
        "per_second": speeds,
    }
