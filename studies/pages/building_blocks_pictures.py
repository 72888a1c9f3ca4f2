"""The pictures of docs/building_blocks.md and their data."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from studies.by_hand.activations import activation
from studies.by_hand.blocks import convolution, softmax
from studies.pages import building_blocks_numbers as numbers
from studies.pages import building_blocks_valley as valley

BLUE, ORANGE, GREY, INK = "#2f6db3", "#d9772b", "#9aa0a6", "#26292e"
OF_RULE = {"SGD": GREY, "momentum": ORANGE, "Adam": BLUE}
PLACES = ((0, 0), (1, 1), (2, 2))
TITLES = {
    "step": "step",
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU (slope 0.01)",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "softmax": "softmax (1st of 3, others 0)",
}
STEPS_DRAWN, STEPS_PLOTTED = 60, 200
WIDTH = 7.0  # inches; 770 pixels


def behind_convolution() -> dict[str, Any]:
    """Returns the output for the report's sizes: 5x5 input, 3x3 filter."""
    x, kernel = numbers.BRIGHT_CORNER, numbers.VERTICAL_EDGES
    convolve = jax.jit(convolution.convolution)
    y = convolve(numbers.image(x), kernel[:, :, None, None], jnp.zeros(1))
    return {"input": x, "filter": kernel, "output": y[0, :, :, 0]}


def behind_activations() -> dict[str, Any]:
    """Returns values and derivatives on [-4, 4]; for softmax with two other logits of 0."""
    places = jnp.asarray(np.linspace(-4, 4, 161))  # whose middle is 0, to the bit
    curves = {"x": places}
    for name in numbers.ACTIVATIONS:
        rule = activation(name)
        curves[name] = [rule.value(places), rule.derivative(places)]
    logits = jnp.stack([places, 0 * places, 0 * places], axis=1)
    shares = softmax.softmax(logits)
    first = jnp.zeros_like(shares).at[:, 0].set(1.0)
    curves["softmax"] = [shares[:, 0], softmax.softmax_backward(first, shares)[:, 0]]
    return curves


def behind_valley() -> dict[str, Any]:
    """Returns the first points of the walks, and the height after every step."""
    walks = {}
    for rule, rate in valley.SHOWN.items():
        for name, turned in (("axes", False), ("turned", True)):
            places, heights = valley.walk(rule, rate, turned=turned)
            drawn = {"places": places[: STEPS_DRAWN + 1], "heights": heights[: STEPS_PLOTTED + 1]}
            walks[f"{rule}, {name}"] = drawn
    return walks


def draw_convolution(found: dict[str, Any]) -> Figure:
    """Draws three positions of the filter: the window on the input above, the partial output below."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots(2, 4, height_ratios=(5, 3))
    _grid(axes[0, 0], found["filter"], "filter", rows=5)
    axes[1, 0].axis("off")
    output = np.array(found["output"])
    order = np.arange(output.size).reshape(output.shape)
    for (row, column), (above, below) in zip(PLACES, axes[:, 1:].T, strict=True):
        _grid(above, found["input"], f"window ({row}, {column})", rows=5)
        _outline(above, row, column, side=3)
        done = np.where(order <= order[row, column], output, np.nan)
        _grid(below, done, f"output ({row}, {column}) = {output[row, column]:g}", rows=3)
        _outline(below, row, column, side=1)
    return figure


def draw_pooling(found: dict[str, Any]) -> Figure:
    """Draws digit, edges, maxima and averages; below, the same for the digit shifted by one pixel."""
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    axes = figure.subplots(2, 4)
    names = ("digit", "edges found", "max of 2x2", "average of 2x2")
    for line, row, above in (("still", axes[0], True), ("moved", axes[1], False)):
        for place, axis in enumerate(row):
            values = np.array(found[line][place])
            axis.imshow(values, cmap="Greys", vmin=0, vmax=np.max(found["still"][min(place, 1)]))
            _bare(axis)
            changed = f"changed by {100 * found['changes'][place]:.0f} %"
            axis.set_title(names[place] if above else changed, fontsize=9.5)
            if place == 0:
                axis.set_ylabel("where it was" if above else "one pixel right")
    return figure


def draw_activations(found: dict[str, Any]) -> Figure:
    """Draws a panel per activation: the value, and the derivative dashed."""
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True)
    for (name, title), axis in zip(TITLES.items(), axes.flat, strict=True):
        value, slope = (_without_risers(curve) for curve in found[name])
        axis.plot(found["x"], value, color=BLUE, linewidth=2, label="value")
        axis.plot(found["x"], slope, color=ORANGE, linewidth=1.6, linestyle="--", label="derivative")
        axis.set_title(title, fontsize=10)
        _quiet(axis)
    axes[0, 0].legend(frameon=False, fontsize=9)
    return figure


def draw_valley(found: dict[str, Any]) -> Figure:
    """Draws the walks on the valley and on the rotated one, and their height by step."""
    figure = Figure(figsize=(WIDTH, 5.4), layout="constrained")
    axes = figure.subplots(2, 2)
    for name, (ground, curve), turned in (("axes", axes[:, 0], False), ("turned", axes[:, 1], True)):
        _contours(ground, valley.valley(turned=turned), ylim=(-8, 3) if turned else (-1.5, 1.5))
        for rule, color in OF_RULE.items():
            walk = found[f"{rule}, {name}"]
            label = f"{rule}, rate {valley.SHOWN[rule]:g}"
            ground.plot(*np.transpose(walk["places"]), ".-", color=color, markersize=3, linewidth=1)
            curve.semilogy(walk["heights"], color=color, linewidth=1.3, label=label)
        ground.set_title("turned by 45°" if turned else "along the axes", fontsize=10)
        curve.axhline(valley.LOW, color=INK, linewidth=0.8, linestyle=":")
        curve.set(xlabel="step", ylabel="height", ylim=(1e-4, 2e2))
        _quiet(curve)
    axes[1, 0].legend(frameon=False, fontsize=8.5, loc="upper right")
    return figure


PICTURES: dict[str, tuple[Callable[[], dict], Callable[[dict], Figure]]] = {
    "convolution": (behind_convolution, draw_convolution),
    "pooling": (numbers.moved_digit, draw_pooling),
    "activations": (behind_activations, draw_activations),
    "valley": (behind_valley, draw_valley),
}
"""Functions that compute and draw each picture, by file name."""


def plain(values: Any) -> Any:
    """Converts arrays to nested lists with five digits, for JSON."""
    if isinstance(values, dict):
        return {name: plain(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)) or np.ndim(values):
        return [plain(value) for value in (np.asarray(values) if isinstance(values, jax.Array) else values)]
    return float(f"{float(values):.5g}")


def _grid(axis: Axes, values: Sequence[Sequence[float]], title: str, *, rows: int) -> None:
    """Draws integers in cells, empty for NaN; cells have the size of a grid of 5 x `rows`."""
    cells = np.array(values, float)
    shade = np.where(np.isnan(cells), 0, np.abs(cells))
    axis.imshow(shade, cmap="Blues", vmin=0, vmax=14)
    for (row, column), value in np.ndenumerate(cells):
        if not np.isnan(value):
            text = f"{value:g}"
            axis.text(column, row, text, ha="center", va="center", fontsize=10, color=INK)
    for line in range(1, len(cells)):
        axis.axhline(line - 0.5, color="white", linewidth=1.5)
        axis.axvline(line - 0.5, color="white", linewidth=1.5)
    beside, above = (5 - len(cells)) / 2, (rows - len(cells)) / 2
    axis.set(xlim=(-0.6 - beside, len(cells) - 0.4 + beside))
    axis.set(ylim=(len(cells) - 0.4 + above, -0.6 - above))
    axis.axis("off")
    axis.set_title(title, fontsize=9.5)


def _outline(axis: Axes, row: int, column: int, *, side: int) -> None:
    corner = (column - 0.5, row - 0.5)
    frame = Rectangle(corner, side, side, fill=False, edgecolor=ORANGE, linewidth=2.5, zorder=5)
    axis.add_patch(frame)


def _without_risers(curve: Sequence[float]) -> np.ndarray:
    """Returns the curve with a gap at its jump."""
    values = np.array(curve)
    jumps = np.abs(np.diff(values, prepend=values[0])) > 0.5
    return np.where(jumps, np.nan, values)


def _contours(axis: Axes, matrix: np.ndarray, *, ylim: tuple[float, float]) -> None:
    x, y = np.meshgrid(np.linspace(-9, 3, 200), np.linspace(*ylim, 200))
    height = (matrix[0, 0] * x**2 + 2 * matrix[0, 1] * x * y + matrix[1, 1] * y**2) / 2
    axis.contour(x, y, height, levels=(1, 4, 16, 64, 256), colors="#d5d8dc", linewidths=0.9)
    axis.plot(0, 0, "+", color=INK, markersize=9)
    axis.set(xlim=(-9, 3), ylim=ylim)
    _quiet(axis)


def _bare(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_color("#d5d8dc")


def _quiet(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="#eceef0", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8.5)
