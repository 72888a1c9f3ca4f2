"""Line charts as SVG: what is drawn, in the coordinates of a picture."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 14, 44
MAX_POINTS = 300
"""Of a line; a longer one is drawn by the means of equal pieces."""
COLOURS = ("#2563ab", "#c2410c")
DECADES = 2
"""From so many powers of ten on, values are drawn on a logarithmic axis."""


@dataclasses.dataclass(frozen=True)
class Series:
    """A line of a chart, float[N] each; `dots` where every point is a measurement of its own."""

    name: str
    x: np.ndarray
    y: np.ndarray
    dots: bool = False


@dataclasses.dataclass(frozen=True)
class Tick:
    """A mark of an axis: its place in the picture and its text."""

    place: float
    text: str


@dataclasses.dataclass(frozen=True)
class LogRecord:
    """A series in the picture's coordinates; `dots` marks each point, as a single one must be."""

    name: str
    colour: str
    points: list[tuple[float, float]]
    dots: bool

    @property
    def path(self) -> str:
        """The points as SVG's polyline takes them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclasses.dataclass(frozen=True)
class Bar:
    """A rectangle in the picture's coordinates."""

    x: float
    y: float
    width: float
    height: float
    description: str


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart as the template draws it."""

    title: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[LogRecord]
    bars: list[Bar]
    diagonal: LogRecord | None = None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclasses.dataclass(frozen=True)
class _Frame:
    """From the numbers' ranges to the picture's coordinates."""

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
    """A chart of several series on common axes; None where there is not one finite point.

    The vertical axis is logarithmic where positive values span `DECADES` or more, unless they are `percent`.
    """
    thinned = [one for one in map(_thin, series) if len(one.x)]
    if not thinned:
        return None
    xs, ys = (np.concatenate([getattr(one, axis) for one in thinned]) for axis in "xy")
    logarithmic = not percent and ys.min() > 0 and ys.max() / ys.min() >= 10**DECADES
    x_ticks = _round_numbers(0, xs.max())
    y_ticks = (_powers_of_ten if logarithmic else _round_numbers)(ys.min(), ys.max())
    frame = _Frame((0, max(xs.max(), x_ticks[-1])), (y_ticks[0], y_ticks[-1]), logarithmic)
    lines = [
        LogRecord(
            one.name,
            COLOURS[number % len(COLOURS)],
            [(frame.across(x), frame.down(y)) for x, y in zip(one.x, one.y, strict=True)],
            one.dots or len(one.x) == 1,
        )
        for number, one in enumerate(thinned)
    ]
    return Chart(
        title,
        x_label,
        f"{y_label}, logarithmic" if logarithmic else y_label,
        [Tick(frame.across(value), f"{value:g}") for value in x_ticks],
        [Tick(frame.down(value), _format(value, percent)) for value in y_ticks],
        lines,
        [],
    )


def reliability_chart(
    confidence: np.ndarray, accuracy: np.ndarray, count: np.ndarray, bins: int
) -> Chart:
    """Accuracy by mean confidence, a bar a bin that holds examples, of `bins` equal parts of [0, 1]."""
    frame = _Frame((0.0, 1.0), (0.0, 1.0))
    edges = np.linspace(0, 1, bins + 1)
    bars = []
    for sure, right, examples in zip(confidence, accuracy, count, strict=True):
        number = int(np.searchsorted(edges[1:-1], sure))
        low, high = edges[number], edges[number + 1]
        bars.append(
            Bar(
                x=frame.across(low) + 0.5,
                y=frame.down(right),
                width=frame.across(high) - frame.across(low) - 1,
                height=frame.down(0) - frame.down(right),
                description=f"{examples:,} examples told with {100 * low:.0f} to {100 * high:.0f} %: "
                f"{100 * right:.1f} % right",
            )
        )
    points = [(frame.across(x), frame.down(y)) for x, y in zip(confidence, accuracy, strict=True)]
    fifths = np.linspace(0, 1, 6)
    return Chart(
        "Reliability",
        "confidence",
        "share that is right",
        [Tick(frame.across(value), f"{100 * value:.0f} %") for value in fifths],
        [Tick(frame.down(value), f"{100 * value:.0f} %") for value in fifths],
        [LogRecord("mean of a bin", COLOURS[1], points, True)],
        bars,
        LogRecord(
            "", "", [(frame.across(0), frame.down(0)), (frame.across(1), frame.down(1))], False
        ),
    )


def _thin(series: Series) -> Series:
    finite = np.isfinite(series.y)
    x, y = series.x[finite], series.y[finite]
    if len(x) > MAX_POINTS:
        x, y = (
            np.array([piece.mean() for piece in np.array_split(values, MAX_POINTS)])
            for values in (x, y)
        )
    return dataclasses.replace(series, x=x, y=y)


def _round_numbers(low: float, high: float) -> list[float]:
    """Four to eight multiples of 1, 2 or 5 times a power of ten that enclose a range."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - max(abs(low), 1e-3) / 2, high + max(abs(high), 1e-3) / 2
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _powers_of_ten(low: float, high: float) -> list[float]:
    """At most nine powers of ten at equal distances that enclose a range of positive numbers."""
    first = math.floor(math.log10(low) + 1e-6)
    last = math.ceil(math.log10(high) - 1e-6)
    step = math.ceil((last - first) / 8)
    return [10.0**power for power in range(first, last + step, step)]


def _format(value: float, percent: bool) -> str:
    return f"{100 * value:g} %" if percent else f"{value:g}"
