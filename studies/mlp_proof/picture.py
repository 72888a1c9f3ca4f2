"""Figures of the network with one sample's values and gradients, and of the loss over the first steps."""

import hashlib
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jaxnets.errors import ConfigError
from jaxnets.io import atomic_replace
from jaxnets.runtime import xla
from studies.by_hand import column_biases, mlp
from studies.mlp_proof.case import MEAN, SUM, Case
from studies.mlp_proof.implementations import by_hand_step

NETWORK, LOSS = "mlp_network.png", "mlp_loss.png"
STEPS = 50
POSITIVE, NEGATIVE, GRADIENT = "#1f5fa8", "#b8480b", "#4d4d4d"
SIZE, BELOW = 9, 0.32
"""The font size of labels in points; the distance of a bias below its neuron."""
DPI, COLORS = 110, 64
DIGEST = "numbers"
"""The PNG text entry with the digest of the numbers shown."""
MINUS = "\N{MINUS SIGN}"


def prepare(folder: Path) -> None:
    """Creates the folder; raises ConfigError if that fails or matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib: pip install -e '.[plots]'")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(f"--plot={folder} is a file: name a folder") from None
    except OSError as error:
        raise ConfigError(f"--plot={folder} cannot be created: {error.strerror}") from None


def draw(case: Case, folder: Path) -> list[Path]:
    """Writes both figures into `folder` and returns their paths."""
    with jax.enable_x64(True):
        step = by_hand_step(case.parameters, **case.first_step, loss=SUM)
        trace = jax.tree.map(np.asarray, step)
        losses = first_losses(case)
    network, loss = folder / NETWORK, folder / LOSS
    for figure, path in ((_network(case, trace), network), (_losses(losses), loss)):
        save(figure, path, _digest(figure))
    return [network, loss]


def first_losses(case: Case, steps: int = STEPS) -> dict[str, list[float]]:
    """Returns the mean squared error before each step and after the last, by loss and biases."""
    settings = {
        "Σ (ŷ - y)²": (mlp.gradient_step, SUM, case.parameters),
        "(1/n) Σ (ŷ - y)²": (mlp.gradient_step, MEAN, case.parameters),
        "(1/n) Σ (ŷ - y)², b: (n, 1)": (column_biases.gradient_step, MEAN, case.columns),
    }
    losses: dict[str, list[float]] = {}
    for name, (step, loss, parameters) in settings.items():
        jitted = xla.jit(lambda p, step=step, loss=loss: step(p, **case.step, loss=loss))
        losses[name] = []
        for _ in range(steps + 1):
            trace = jitted(parameters)
            losses[name].append(float(np.mean((np.asarray(trace.a[-1]) - case.labels.T) ** 2)))
            parameters = trace.updated
    return losses


def _network(case: Case, trace: mlp.Trace) -> Any:
    """Draws neurons with activations, and edges with weights and gradients."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.6, 7.4), layout="constrained")
    axes = figure.subplots()
    values = [case.inputs[0], *(a[:, 0] for a in trace.a)]
    heights = [(len(column) - 1) / 2 - np.arange(len(column)) for column in values]
    heads = ["x", *(f"a{number}" for number in range(1, len(values)))]
    heads[-1] += " = ŷ"
    for number, layer in enumerate(case.parameters):
        gradient = trace.gradients[number]
        _edges(axes, number, heights[number : number + 2], layer.weight, gradient.weight)
        for height, bias, delta in zip(heights[number + 1], layer.bias, gradient.bias, strict=True):
            texts = _number(bias), _number(delta)
            _label(axes, number + 1, height - BELOW, texts, _color(bias))
    top, bottom = (end(map(end, heights)) for end in (max, min))
    for x, (column, ys) in enumerate(zip(values, heights, strict=True)):
        for y, value in zip(ys, column, strict=True):
            _neuron(axes, x, y, _number(value))
        axes.text(x, top + 0.38, heads[x], ha="center", fontsize=SIZE + 3, fontweight="bold")
    _legend(axes, len(values) - 1, bottom + 0.2)
    axes.set(xlim=(-0.2, len(values) - 0.8), ylim=(bottom - 0.5, top + 0.5))
    axes.set_axis_off()
    return figure


def _legend(axes: Any, x: float, y: float) -> None:
    """Draws a neuron and an edge that explain the labels."""
    axes.plot([x - 0.55, x], [y, y], color="black", linewidth=1.5, alpha=0.4)
    _neuron(axes, x, y, "a")
    _label(axes, x - 0.33, y, ("w", "∂E/∂w = δ a"), "black")
    _label(axes, x, y - BELOW, ("b", "∂E/∂b = δ"), "black")


def _edges(axes: Any, x: int, heights: Sequence[np.ndarray], weight: Any, gradient: Any) -> None:
    """Draws the edges between two layers, with labels where the edges are equally far apart."""
    inputs, neurons = heights
    along = len(inputs) / (len(inputs) + 1)
    for neuron, end in enumerate(neurons):
        for entry, start in enumerate(inputs):
            w, slope = weight[neuron][entry], gradient[neuron][entry]
            width = 0.5 + 2.5 * abs(w)
            axes.plot([x, x + 1], [start, end], color=_color(w), linewidth=width, alpha=0.4)
            height = start + along * (end - start)
            _label(axes, x + along, height, (_number(w), _number(slope)), _color(w))


def _neuron(axes: Any, x: float, y: float, text: str) -> None:
    axes.scatter(x, y, s=1700, color="white", edgecolors="black", zorder=3)
    axes.text(x, y, text, ha="center", va="center", fontsize=SIZE + 1, zorder=4)


def _label(axes: Any, x: float, y: float, texts: tuple[str, str], color: str) -> None:
    """Writes a value in its colour and its gradient below."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.9}
    shared = {"ha": "center", "fontsize": SIZE, "bbox": box, "zorder": 2}
    axes.text(x, y, texts[0], va="bottom", color=color, fontweight="bold", **shared)
    axes.text(x, y, texts[1], va="top", color=GRADIENT, **shared)


def _color(value: float) -> str:
    return POSITIVE if value > 0 else NEGATIVE


def _number(value: float) -> str:
    return f"{round(float(value), 3) + 0.0:.3f}".replace("-", MINUS)  # + 0.0: no -0.000


def _losses(losses: dict[str, list[float]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.8, 3.8), layout="constrained")
    axes = figure.subplots()
    for (name, values), style in zip(losses.items(), ("-", "-", "--"), strict=True):
        axes.semilogy(values, style, label=name)
    axes.set(xlabel="k", ylabel="(1/n) Σ (ŷ - y)²")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _digest(figure: Any) -> str:
    """Returns a hash of all texts and lines, to three digits."""
    shown = [
        [text.get_text() for text in axes.texts]
        + [[f"{value:.2e}" for value in line.get_ydata()] for line in axes.lines]
        for axes in figure.axes
    ]
    return hashlib.sha256(repr(shown).encode()).hexdigest()


def save(figure: Any, path: Path, digest: str) -> None:
    """Writes a figure atomically as a PNG with a palette and the digest of its numbers."""
    metadata = PngInfo()
    metadata.add_text(DIGEST, digest)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    with Image.open(buffer) as image, atomic_replace(path) as temporary:
        image.convert("RGB").quantize(COLORS).save(temporary, "PNG", optimize=True, pnginfo=metadata)
