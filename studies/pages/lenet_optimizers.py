"""The section "Adam or SGD" of docs/lenet_and_alexnet.md, and its picture."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnets.evaluation.statistics import wilson_interval
from jaxnets.experiment.run_directory import read_result
from studies.pages import curves
from studies.pages.markdown import NOT_RUN, table_row
from studies.sweeps import Row

OPTIMIZERS = {"adam": "Adam", "sgd": "SGD"}
HELD_OUT = 5_001
"""MNIST validation images, a twelfth of the training set."""
MARGINS = (1, 2, 4, 10)
"""Points below an optimizer's best validation accuracy."""
LearningCurves = Mapping[str, Mapping[float, list[float]]]
"""Validation accuracies by optimizer, learning rate and epoch, in percent; no epochs if not run."""


@dataclasses.dataclass(frozen=True)
class Noise:
    """Random variation of the accuracy, in percentage points."""

    seed_deviation: float
    """Standard deviation over seeds."""
    half_width: float | None
    """Half-width of the interval of one run's test accuracy; None if it is not run."""

    def of_difference(self, half_width: float) -> float:
        """Returns a bound below which 95 % of differences between two runs of one config lie."""
        return math.sqrt(2 * (half_width**2 + (1.96 * self.seed_deviation) ** 2))


def half_width(accuracy: float, examples: int) -> float:
    """Returns the half-width of Wilson's interval in percentage points."""
    low, high = wilson_interval(round(accuracy * examples), examples)
    return 50 * (high - low)


def validation_accuracies(folder: Path, name: str) -> list[float]:
    """Returns the validation accuracies of a finished run by epoch, in percent; empty if it is not run."""
    if read_result(folder / name) is None:
        return []
    lines = (line for line in curves.read_lines(folder / name) if line["split"] == "validation")
    return [100 * line["values"]["accuracy"] for line in lines]


def learning_curves(folder: Path, rows: Sequence[Row]) -> LearningCurves:
    """Returns the curves of LeNet-5 on MNIST by optimizer and learning rate."""
    found: dict[str, dict[float, list[float]]] = {name: {} for name in OPTIMIZERS}
    for row in rows:
        only_rate = set(row.overrides) <= {"seed", "optimizer.learning_rate"}
        if only_rate and (row.config.model.name, row.config.data.name) == ("lenet5", "mnist"):
            optimizer = row.config.optimizer
            found[optimizer.name][optimizer.learning_rate] = validation_accuracies(folder, row.name)
    return {name: dict(sorted(by_rate.items())) for name, by_rate in found.items()}


def section(found: LearningCurves, noise: Noise) -> dict[str, str]:
    """Returns the placeholders of the section."""
    rates = [
        table_row(f"{rate:g}", *(text for name in OPTIMIZERS for text in _first_and_last(found[name][rate])))
        for rate in found["adam"]
    ]
    values = {"rates": "\n".join(rates)}
    if not all(curve for by_rate in found.values() for curve in by_rate.values()):
        names = [f"{name}_{what}" for name in OPTIMIZERS for what in ("first", "best", "ahead")]
        near = "\n".join(table_row(f"{points} points", NOT_RUN, NOT_RUN) for points in MARGINS)
        return values | dict.fromkeys([*names, "first_text", "best_text"], NOT_RUN) | {"near": near}
    for what, epoch in (("first", 0), ("best", -1)):
        best = {}
        for name, by_rate in found.items():
            best[name], rate = max((curve[epoch], rate) for rate, curve in by_rate.items())
            values[f"{name}_{what}"] = f"{best[name]:.2f} % (learning rate {rate:g})"
        margin = noise.of_difference(half_width(max(best.values()) / 100, HELD_OUT))
        values[f"{what}_text"] = compare("Adam", best["adam"], "SGD", best["sgd"], margin)
        if what == "first":
            lead = [found["adam"][rate][0] - found["sgd"][rate][0] for rate in found["adam"]]
            values["adam_ahead"] = str(sum(each > margin for each in lead))
            values["sgd_ahead"] = str(sum(-each > margin for each in lead))
    return values | {"near": _near_best(found)}


def _first_and_last(curve: list[float]) -> tuple[str, str]:
    return (f"{curve[0]:.2f} %", f"{curve[-1]:.2f} %") if curve else (NOT_RUN, NOT_RUN)


def _near_best(found: LearningCurves) -> str:
    """Returns a row per margin: the number of learning rates that end within it of the best."""
    final = [[curve[-1] for curve in by_rate.values()] for by_rate in found.values()]
    lines = []
    for points in MARGINS:
        counts = [str(sum(max(each) - end <= points for end in each)) for each in final]
        lines.append(table_row(f"{points} point{'s' * (points > 1)}", *counts))
    return "\n".join(lines)


def compare(first: str, one: float, second: str, other: float, margin: float) -> str:
    """Says which of two accuracies is higher, if they differ by more than `margin` points."""
    if abs(one - other) < margin:
        return f"the difference of {abs(one - other):.2f} points is within chance ({margin:.2f})"
    better, worse = (first, second) if one > other else (second, first)
    return f"{better} is better than {worse} by {abs(one - other):.2f} points (chance: {margin:.2f})"


def drawn_rates(found: LearningCurves) -> dict[str, Any]:
    """Returns (learning rate, validation accuracy) by label, after the first and the last epoch."""
    return {
        f"{title}, {epochs}": [(rate, curve[epoch]) for rate, curve in found[name].items() if curve]
        for name, title in OPTIMIZERS.items()
        for epoch, epochs in ((0, "one epoch"), (-1, "five epochs"))
    }


def draw_rates(path: Path, drawn: Mapping[str, Any]) -> None:
    """Draws validation accuracy over the learning rate."""
    figure = curves.new_figure((5.2, 3.0))
    axes = figure.subplots()
    for label, points in drawn.items():
        x, y = zip(*points, strict=True) if points else ((), ())
        color = curves.OURS if label.startswith("Adam") else curves.THEIRS
        line = "--" if "one epoch" in label else "-"
        axes.plot(x, y, line, marker="o", color=color, label=label)
    axes.set(xlabel="learning rate", ylabel="validation accuracy, %", xscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    curves.save(path, figure, drawn)
