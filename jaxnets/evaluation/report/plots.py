"""Charts as SVG shapes in pixel coordinates, for the template to draw."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 14, 44
MAX_POINTS = 300
"""Points per line; longer lines are averaged over equal segments."""
COLOURS = ("#2563ab", "#c2410c")
DECADES = 2
"""The vertical axis is logarithmic if the values span at least this many powers of ten."""
Ticks = list[tuple[float, str]]
"""The ticks of an axis: their pixel coordinates and labels."""


class Series(NamedTuple):
    """A line of a chart, `x` and `y` float[N]; `dots` marks each point."""

    name: str
    x: np.ndarray
    y: np.ndarray
    dots: bool = False


class Polyline(NamedTuple):
    """A series in pixel coordinates; `dots` marks each point."""

    name: str
    colour: str
    points: list[tuple[float, float]]
    dots: bool


class Bar(NamedTuple):
    """A rectangle in pixel coordinates."""

    x: float
    y: float
    width: float
    height: float
    description: str


class Chart(NamedTuple):
    """A chart in pixel coordinates, `WIDTH` by `HEIGHT`, perhaps with a diagonal of equal values."""

    title: str
    x_label: str
    y_label: str
    x_ticks: Ticks
    y_ticks: Ticks
    lines: list[Polyline]
    bars: Sequence[Bar] = ()
    diagonal: bool = False


class _Axes(NamedTuple):
    """Maps values to pixel coordinates."""

    x: tuple[float, float]
    y: tuple[float, float]
    logarithmic: bool = False

    def across(self, value: float) -> float:
        low, high = self.x
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def down(self, value: float) -> float:
        low, high = self.y
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def points(self, x: Iterable[float], y: Iterable[float]) -> list[tuple[float, float]]:
        return [(self.across(a), self.down(b)) for a, b in zip(x, y, strict=True)]


def line_chart(
    title: str, series: Sequence[Series], *, x_label: str, y_label: str, percent: bool = False
) -> Chart | None:
    """A chart of several series on common axes; None if no point is finite.

    The vertical axis is logarithmic if positive values span `DECADES` or more and are not `percent`.
    """
    thinned = [one for one in map(_thin, series) if len(one.x)]
    if not thinned:
        return None
    xs, ys = np.concatenate([one.x for one in thinned]), np.concatenate([one.y for one in thinned])
    logarithmic = not percent and ys.min() > 0 and ys.max() / ys.min() >= 10**DECADES
    x_ticks = _round_numbers(0, xs.max())
    y_ticks = (_powers_of_ten if logarithmic else _round_numbers)(ys.min(), ys.max())
    axes = _Axes((0, max(xs.max(), x_ticks[-1])), (y_ticks[0], y_ticks[-1]), logarithmic)
    scale, unit = (100, " %") if percent else (1, "")
    return Chart(
        title,
        x_label,
        f"{y_label}, logarithmic" if logarithmic else y_label,
        [(axes.across(value), f"{value:g}") for value in x_ticks],
        [(axes.down(value), f"{scale * value:g}{unit}") for value in y_ticks],
        [
            Polyline(one.name, colour, axes.points(one.x, one.y), one.dots or len(one.x) == 1)
            for one, colour in zip(thinned, itertools.cycle(COLOURS), strict=False)
        ],
    )


def reliability_chart(confidence: np.ndarray, accuracy: np.ndarray, count: np.ndarray, bins: int) -> Chart:
    """Accuracy against mean confidence, one bar per nonempty bin of `bins` equal bins of [0, 1]."""
    axes = _Axes((0.0, 1.0), (0.0, 1.0))
    edges = np.linspace(0, 1, bins + 1)
    bars = []
    for mean, right, examples in zip(confidence, accuracy, count, strict=True):
        number = int(np.searchsorted(edges[1:-1], mean))
        low, high = edges[number], edges[number + 1]
        text = (
            f"{examples:,} examples, confidence {100 * low:.0f} to {100 * high:.0f} %: "
            f"{100 * right:.1f} % correct"
        )
        left, top = axes.across(low), axes.down(right)
        bars.append(Bar(left + 0.5, top, axes.across(high) - left - 1, axes.down(0) - top, text))
    fifths = np.linspace(0, 1, 6)
    return Chart(
        "Reliability",
        "confidence",
        "accuracy",
        [(axes.across(value), f"{100 * value:.0f} %") for value in fifths],
        [(axes.down(value), f"{100 * value:.0f} %") for value in fifths],
        [Polyline("mean per bin", COLOURS[1], axes.points(confidence, accuracy), True)],
        bars,
        diagonal=True,
    )


def _thin(series: Series) -> Series:
    finite = np.isfinite(series.y)
    x, y = series.x[finite], series.y[finite]
    if len(x) > MAX_POINTS:
        x, y = (np.array([part.mean() for part in np.array_split(given, MAX_POINTS)]) for given in (x, y))
    return series._replace(x=x, y=y)


def _round_numbers(low: float, high: float) -> list[float]:
    """Ticks at multiples of 1, 2 or 5 times a power of ten, four to eight, that enclose a range."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - max(abs(low), 1e-3) / 2, high + max(abs(high), 1e-3) / 2
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _powers_of_ten(low: float, high: float) -> list[float]:
    """Ticks at up to nine equally spaced powers of ten that enclose a range of positive numbers."""
    first = math.floor(math.log10(low) + 1e-6)
    last = math.ceil(math.log10(high) - 1e-6)
    step = math.ceil((last - first) / 8)
    return [10.0**power for power in range(first, last + step, step)]
