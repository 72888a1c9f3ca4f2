"""Charts as SVG shapes in pixel coordinates, for the template to draw."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 14, 44
MAX_POINTS = 300
"""Points per line; longer lines are averaged over equal segments."""
COLOURS = ("#2563ab", "#c2410c")
DECADES = 2
"""The vertical axis is logarithmic if the values span at least this many powers of ten."""


@dataclasses.dataclass(frozen=True)
class Series:
    """A line of a chart, `x` and `y` float[N]; `dots` marks each point."""

    name: str
    x: np.ndarray
    y: np.ndarray
    dots: bool = False


@dataclasses.dataclass(frozen=True)
class Tick:
    """A tick of an axis: its pixel coordinate and label."""

    position: float
    text: str


@dataclasses.dataclass(frozen=True)
class Polyline:
    """A series in pixel coordinates; `dots` marks each point."""

    name: str
    colour: str
    points: list[tuple[float, float]]
    dots: bool

    @property
    def path(self) -> str:
        """The points in SVG's syntax."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclasses.dataclass(frozen=True)
class Bar:
    """A rectangle in pixel coordinates."""

    x: float
    y: float
    width: float
    height: float
    description: str


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart in pixel coordinates."""

    title: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Polyline]
    bars: list[Bar] = dataclasses.field(default_factory=list)
    diagonal: Polyline | None = None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclasses.dataclass(frozen=True)
class _Axes:
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


def line_chart(
    title: str, series: Sequence[Series], *, x_label: str, y_label: str, percent: bool = False
) -> Chart | None:
    """A chart of several series on common axes; None if no point is finite.

    The vertical axis is logarithmic if positive values span `DECADES` or more and are not `percent`.
    """
    thinned = [one for one in map(_thin, series) if len(one.x)]
    if not thinned:
        return None
    xs, ys = (np.concatenate([getattr(one, axis) for one in thinned]) for axis in "xy")
    logarithmic = not percent and ys.min() > 0 and ys.max() / ys.min() >= 10**DECADES
    x_ticks = _round_numbers(0, xs.max())
    y_ticks = (_powers_of_ten if logarithmic else _round_numbers)(ys.min(), ys.max())
    axes = _Axes((0, max(xs.max(), x_ticks[-1])), (y_ticks[0], y_ticks[-1]), logarithmic)
    lines = [
        Polyline(
            one.name,
            COLOURS[number % len(COLOURS)],
            [(axes.across(x), axes.down(y)) for x, y in zip(one.x, one.y, strict=True)],
            one.dots or len(one.x) == 1,
        )
        for number, one in enumerate(thinned)
    ]
    return Chart(
        title,
        x_label,
        f"{y_label}, logarithmic" if logarithmic else y_label,
        [Tick(axes.across(value), f"{value:g}") for value in x_ticks],
        [Tick(axes.down(value), _format_tick(value, percent)) for value in y_ticks],
        lines,
    )


def reliability_chart(confidence: np.ndarray, accuracy: np.ndarray, count: np.ndarray, bins: int) -> Chart:
    """Accuracy against mean confidence, one bar per nonempty bin of `bins` equal bins of [0, 1]."""
    axes = _Axes((0.0, 1.0), (0.0, 1.0))
    edges = np.linspace(0, 1, bins + 1)
    bars = []
    for mean, right, examples in zip(confidence, accuracy, count, strict=True):
        number = int(np.searchsorted(edges[1:-1], mean))
        low, high = edges[number], edges[number + 1]
        bars.append(
            Bar(
                x=axes.across(low) + 0.5,
                y=axes.down(right),
                width=axes.across(high) - axes.across(low) - 1,
                height=axes.down(0) - axes.down(right),
                description=f"{examples:,} examples, confidence {100 * low:.0f} to {100 * high:.0f} %: "
                f"{100 * right:.1f} % correct",
            )
        )
    points = [(axes.across(x), axes.down(y)) for x, y in zip(confidence, accuracy, strict=True)]
    fifths = np.linspace(0, 1, 6)
    return Chart(
        "Reliability",
        "confidence",
        "accuracy",
        [Tick(axes.across(value), f"{100 * value:.0f} %") for value in fifths],
        [Tick(axes.down(value), f"{100 * value:.0f} %") for value in fifths],
        [Polyline("mean per bin", COLOURS[1], points, True)],
        bars,
        Polyline("", "", [(axes.across(0), axes.down(0)), (axes.across(1), axes.down(1))], False),
    )


def _thin(series: Series) -> Series:
    finite = np.isfinite(series.y)
    x, y = series.x[finite], series.y[finite]
    if len(x) > MAX_POINTS:
        x, y = (
            np.array([segment.mean() for segment in np.array_split(values, MAX_POINTS)]) for values in (x, y)
        )
    return dataclasses.replace(series, x=x, y=y)


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


def _format_tick(value: float, percent: bool) -> str:
    return f"{100 * value:g} %" if percent else f"{value:g}"
