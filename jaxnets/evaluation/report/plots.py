"""Charts as SVG shapes in pixel coordinates, for the template to draw."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 14, 44
MAX_POINTS = 300  # points per line; longer lines are averaged over equal segments
COLOURS = ("#2563ab", "#c2410c", "#15803d")
LOGARITHMIC_FROM = 10  # the vertical axis is logarithmic if the largest value is this many times the smallest
DOTS_UP_TO = 30  # lines of at most this many points have a dot at each


class Line(NamedTuple):
    """A line through points [N, 2], in the units of the data or in pixels; `dots` marks each point."""

    name: str
    points: np.ndarray
    dots: bool = False


class Bar(NamedTuple):
    """A rectangle in pixel coordinates."""

    x: float
    y: float
    width: float
    height: float
    description: str


class Mark(NamedTuple):
    """A dot or a cross in pixel coordinates, with a description and a colour of a web page."""

    x: float
    y: float
    colour: str
    description: str
    is_cross: bool = False


class Chart(NamedTuple):
    """A chart in pixel coordinates, `WIDTH` by `HEIGHT`, perhaps with a diagonal of equal values.

    `legend` names colours of marks.
    """

    title: str
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]
    bars: Sequence[Bar] = ()
    diagonal: bool = False
    marks: Sequence[Mark] = ()
    legend: Sequence[tuple[str, str]] = ()


class _Axes(NamedTuple):
    """Maps values to pixel coordinates."""

    x: tuple[float, float]
    y: tuple[float, float]
    logarithmic: bool = False

    def across(self, values: np.ndarray) -> np.ndarray:
        low, high = self.x
        return LEFT + (values - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def down(self, values: np.ndarray) -> np.ndarray:
        low, high = self.y
        if self.logarithmic:
            low, high, values = math.log10(low), math.log10(high), np.log10(values)
        return HEIGHT - BOTTOM - (values - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def place(self, points: np.ndarray) -> np.ndarray:
        return np.column_stack([self.across(points[:, 0]), self.down(points[:, 1])])


def line_chart(
    title: str, lines: Sequence[Line], *, x_label: str, y_label: str, percent: bool = False
) -> Chart | None:
    """A chart of several lines on common axes; None if no point is finite.

    The vertical axis is logarithmic if the values are positive, not `percent`, and span a decade or more.
    """
    lines = [line._replace(points=_thin(line.points)) for line in lines]
    lines = [line for line in lines if len(line.points)]
    if not lines:
        return None
    xs, ys = np.concatenate([line.points for line in lines]).T
    logarithmic = not percent and ys.min() > 0 and ys.max() / ys.min() >= LOGARITHMIC_FROM
    x_ticks = _round_numbers(0, xs.max())
    y_ticks = (_powers_of_ten if logarithmic else _round_numbers)(ys.min(), ys.max())
    axes = _Axes((0, max(xs.max(), x_ticks[-1])), (y_ticks[0], y_ticks[-1]), logarithmic)
    factor, unit = (100, " %") if percent else (1, "")
    return Chart(
        title,
        x_label,
        f"{y_label} (log scale)" if logarithmic else y_label,
        [(x, f"{value:g}") for x, value in zip(axes.across(x_ticks), x_ticks, strict=True)],
        [(y, f"{factor * value:g}{unit}") for y, value in zip(axes.down(y_ticks), y_ticks, strict=True)],
        [
            Line(line.name, axes.place(line.points), line.dots or len(line.points) <= DOTS_UP_TO)
            for line in lines
        ],
    )


def reliability_chart(confidence: np.ndarray, accuracy: np.ndarray, count: np.ndarray, bins: int) -> Chart:
    """Accuracy against mean confidence, one bar per nonempty bin of `bins` equal bins of [0, 1]."""
    axes = _Axes((0.0, 1.0), (0.0, 1.0))
    edges = np.linspace(0, 1, bins + 1)
    bars = []
    for mean, right, top, examples in zip(confidence, accuracy, axes.down(accuracy), count, strict=True):
        number = int(np.searchsorted(edges[1:-1], mean))
        low, high = edges[number : number + 2]
        left, end = axes.across(edges)[number : number + 2]
        text = (
            f"{examples:,} examples, confidence {100 * low:.0f} to {100 * high:.0f} %: "
            f"{100 * right:.1f} % correct"
        )
        bars.append(Bar(left + 0.5, top, end - left - 1, HEIGHT - BOTTOM - top, text))
    ticks, labels = np.linspace(0, 1, 6), [f"{value} %" for value in range(0, 101, 20)]
    return Chart(
        "Reliability diagram",
        "confidence",
        "accuracy",
        list(zip(axes.across(ticks), labels, strict=True)),
        list(zip(axes.down(ticks), labels, strict=True)),
        [Line("accuracy per bin", axes.place(np.column_stack([confidence, accuracy])), dots=True)],
        bars,
        diagonal=True,
    )


def scatter_chart(
    title: str,
    points: np.ndarray,
    colours: Sequence[str],
    descriptions: Sequence[str],
    is_cross: np.ndarray,
    *,
    axes: Sequence[str],
    legend: Sequence[tuple[str, str]],
) -> Chart:
    """Points [N, 2] as dots, or as crosses where bool[N] `is_cross` is true; `axes` are labels of x and y."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.maximum(0.03 * (high - low), 1e-9)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    places = _Axes((left, right), (bottom, top)).place(points)
    rows = zip(places.tolist(), colours, descriptions, is_cross.tolist(), strict=True)
    marks = [Mark(x, y, colour, description, cross) for (x, y), colour, description, cross in rows]
    return Chart(title, axes[0], axes[1], [], [], [], marks=marks, legend=legend)


def _thin(points: np.ndarray) -> np.ndarray:
    points = points[np.isfinite(points[:, 1])]
    if len(points) <= MAX_POINTS:
        return points
    return np.array([part.mean(axis=0) for part in np.array_split(points, MAX_POINTS)])


def _round_numbers(low: float, high: float) -> np.ndarray:
    """Ticks at multiples of 1, 2 or 5 times a power of ten, four to eight, that enclose a range."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - max(abs(low), 1e-3) / 2, high + max(abs(high), 1e-3) / 2
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return np.round(np.arange(first, last + 1) * step, 12)


def _powers_of_ten(low: float, high: float) -> np.ndarray:
    """Ticks that enclose a range of positive numbers: up to nine powers of ten, with 2 and 5 over few."""
    first, last = math.floor(math.log10(low) + 1e-6), math.ceil(math.log10(high) - 1e-6)
    step = math.ceil((last - first) / 8)
    if last - first > 3:
        return 10.0 ** np.arange(first, last + step, step)
    ticks = np.array([factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)])
    return ticks[
        np.searchsorted(ticks, low * 1.000001, "right") - 1 : np.searchsorted(ticks, high * 0.999999) + 1
    ]
