"""Writes docs/lenet_and_alexnet.md from results/: python -m studies.pages.lenet_and_alexnet.

The prose is in the template beside this file, {{name}} for what is measured; a missing run is marked as such.
"""

import contextlib
import dataclasses
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets import models, reported
from jaxnets.commands.summary import layers_of
from jaxnets.data.sources import TITLES
from jaxnets.data.sources.cifar10 import CLASSES as CIFAR10
from jaxnets.evaluation import result as results
from jaxnets.evaluation.statistics import wilson_interval
from jaxnets.experiment.run_directory import read_result
from jaxnets.io import atomic_write
from studies.pages import curves, results_table
from studies.sweeps import Row, read_table

TEMPLATES = Path(__file__).parent / "templates"
REPOSITORY = Path(__file__).parents[2]
PAGE, PICTURE = "lenet_and_alexnet.md", "lenet_rates.png"
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
MISSING = "not run"
QUESTIONS, SEARCH, BEST = "lenet_questions", "lenet_search", "lenet_best"
HELD_OUT = 5_001
"""Images of MNIST's training set, a twelfth, by whose accuracy our config was chosen."""
NEAR_POINTS = (1, 2, 4, 10)
"""Of validation accuracy below an optimizer's best: what may count as near."""
CHANNELS = {"mnist": 1, "cifar10": 3}
REPORT_C, REPORT_C_CIFAR10 = "lenet_mnist-adam-s0", "alexnet_cifar10-adam-s0"
LENET_ON_CIFAR10 = "lenet_questions-cifar10-s0"
NAMES = {"adam": "Adam", "sgd": "SGD"}
ACCIDENTS = ("C/alexnet", "E/alexnet")
"""The entries that were tested by accident otherwise than on clean images."""
Found = Mapping[str, Mapping[str, Any]]


def page(folder: Path) -> str:
    """The text of the page, of the results in a folder."""
    named = {**values(folder, question_rows()), **_beyond(folder)}
    return PLACEHOLDER.sub(lambda found: named[found[1]], (TEMPLATES / PAGE).read_text())


def question_rows() -> list[Row]:
    """The rows of configs/sweeps/lenet_questions.py, whose paths begin at the repository."""
    return _rows(QUESTIONS)


def _rows(table: str) -> list[Row]:
    with contextlib.chdir(REPOSITORY):
        return read_table(table)


def values(folder: Path, rows: Sequence[Row]) -> dict[str, str]:
    """Every number of the page, as it is shown there."""
    found = {row.name: read_result(folder / row.name) for row in rows}
    known: Found = {name: result for name, result in found.items() if result}
    rates = "optimizer.learning_rate"
    by_config: dict[str, list[Row]] = {}
    for row in rows:
        by_config.setdefault(row.config.name.partition(":")[2], []).append(row)
    changes = [row for row in by_config["mnist"] if rates not in row.overrides]
    base, alexnet = changes[0], by_config["alexnet_cifar10"]
    chance = _chance(folder, known.get(base.name))
    return {
        "reports": _reports(folder),
        **_accidents(folder),
        "swapped": _swapped(folder, [base, *by_config["cifar10"], *by_config["alexnet_mnist"]], alexnet[0]),
        "changes": "\n".join(_change(row, base, known) for row in changes),
        "alexnet_changes": "\n".join(_change(row, alexnet[0], known) for row in alexnet),
        **chance.texts,
        "pooling_text": _pooling(changes, known, chance),
        "rates": _rates(folder, _by_rate(rows)),
        **_optimizers(folder, _by_rate(rows), chance),
        **_confusion(read_result(folder / REPORT_C), REPORT_C),
        **_cifar_classes(folder),
    }


@dataclasses.dataclass(frozen=True)
class Chance:
    """How far two runs of one config may lie apart in 95 of 100 pairs, in points."""

    deviation: float
    """Accuracies over seeds, of report C's config."""
    half_width: float | None
    """Of the interval of one run's test accuracy."""

    @property
    def texts(self) -> dict[str, str]:
        """What the page says of it."""
        if self.half_width is None:
            return dict.fromkeys(("half_width", "seed_deviation", "difference"), MISSING)
        return {
            "half_width": f"{self.half_width:.2f}",
            "seed_deviation": f"{self.deviation:.2f}",
            "difference": f"{self.of_a_pair(self.half_width):.2f} points",
        }

    def of_a_pair(self, half_width: float) -> float:
        """Both runs' test images, of that half-width each, and both runs' seeds."""
        return math.sqrt(2 * (half_width**2 + (1.96 * self.deviation) ** 2))


def _chance(folder: Path, base: Mapping[str, Any] | None) -> Chance:
    seeds = [group for group in results_table.groups(folder) if group.entry == "C/lenet5"]
    each = seeds[0].accuracies("clean") if seeds else []
    deviation = statistics.stdev(each) if len(each) > 1 else 0.0
    if base is None:
        return Chance(deviation, None)
    low, high = base["test_interval"]
    return Chance(deviation, 50 * (high - low))


def _reports(folder: Path) -> str:
    """One row per entry and test of the runs that have it; entries without runs are listed."""
    lines = []
    for name in ("C/lenet5", "E/lenet5", "C/alexnet", "E/alexnet"):
        entry = reported.entry(name)
        title = _title(name)
        groups = [group for group in results_table.groups(folder) if group.entry == name]
        if not groups:
            lines.append(
                _line(title, results.TESTED_ON[reported.tested_as(name)], MISSING, _percent_of(entry))
            )
        for group in groups:
            for test, message in results.TESTED_ON.items():
                if group.accuracies(test):
                    theirs = _percent_of(entry) if test == reported.tested_as(name) else ""
                    lines.append(_line(title, message, _interval(group, test), theirs))
    return "\n".join(lines)


def _title(entry: str) -> str:
    return f"{models.entry(reported.entry(entry)['model']).title}, report {entry[0]}"


def _accidents(folder: Path) -> dict[str, str]:
    """What the other tests cost of the accuracy on clean images, and what that makes of report E's number."""
    groups = [group for group in results_table.groups(folder) if group.entry in ACCIDENTS]
    lines, message = [], f"Report E's config is {MISSING}."
    for name in ACCIDENTS:
        found = [group for group in groups if group.entry == name]
        lines += [_line(_title(name), MISSING, "", "", "")] if not found else []
        for group in found:
            clean = statistics.fmean(group.accuracies("clean"))
            others = [group.accuracies(test) for test in results.TESTED_ON if test != "clean"]
            costs = [f"{clean - statistics.fmean(each):.2f}" if each else "" for each in others]
            lines.append(_line(_title(name), f"{clean:.2f} %", *costs))
            if reported.tested_as(name) == "augmented_dropout":
                percent = reported.entry(name)["result"]["accuracy_percent"]
                cost = clean - statistics.fmean(group.accuracies("augmented_dropout"))
                message = (
                    f"So with both, as report E tested, {cost:.2f} points are lost; by that its "
                    f"{percent:g} % stands for some {percent + cost:.1f} % on clean images."
                )
    return {"accidents": "\n".join(lines), "accidents_text": message}


def _beyond(folder: Path) -> dict[str, str]:
    """The seeds of our own config, and what it was chosen from."""
    found = [read_result(folder / row.name) for row in _rows(BEST)]
    known = {str(number): result for number, result in enumerate(found) if result}
    message = MISSING
    if known:
        group = results_table.Group(None, known)
        each = group.accuracies("clean")
        seeds = ", ".join(f"{accuracy:.2f}" for accuracy in each)
        message = f"**{_interval(group, 'clean')}** ({seeds} %)."
    rows = _rows(SEARCH)
    searched = [read_result(folder / row.name) for row in rows]
    validated = [result["validation_accuracy"] for result in searched if result]
    apart = half_width = MISSING
    if validated:
        apart = f"{100 * (max(validated) - min(validated)):.2f} points"
        half_width = f"{_half_width_of(validated[0], HELD_OUT):.2f} points"
    return {
        "beyond": message,
        "search": "\n".join(
            _searched(row, rows[0], result) for row, result in zip(rows, searched, strict=True)
        ),
        "search_apart": apart,
        "search_half_width": half_width,
    }


def _half_width_of(accuracy: float, examples: int) -> float:
    """Of Wilson's interval, in points."""
    low, high = wilson_interval(round(accuracy * examples), examples)
    return 50 * (high - low)


def _searched(row: Row, baseline: Row, result: Mapping[str, Any] | None) -> str:
    changed = row.overrides.items() - baseline.overrides.items()
    name = ", ".join(f"{path.split('.')[1]} {value}" for path, value in changed) or "none"
    if result is None:
        return _line(name, MISSING, "")
    return _line(name, _validated(result), _tested(result))


def _percent_of(entry: Mapping[str, Any]) -> str:
    return f"{entry['result']['accuracy_percent']:g} %"


def _interval(group: results_table.Group, test: str) -> str:
    low, high = group.interval(test)
    mean, count = statistics.fmean(group.accuracies(test)), len(group.runs)
    return f"{mean:.2f} % [{low:.2f}, {high:.2f}], {count} seed{'s' * (count > 1)}"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _costs(row: Row) -> tuple[str, str]:
    """Parameters and multiply-adds of a row's network."""
    config = row.config.copy_and_resolve_references()
    config.model.num_classes = 10
    shape = (config.data.image_size, config.data.image_size, CHANNELS[config.data.name])
    layers = layers_of(config.model, shape)
    parameters = sum(layer.parameters for layer in layers)
    return f"{parameters:,}", f"{sum(layer.multiply_adds for layer in layers):,}"


def _swapped(folder: Path, rows: Sequence[Row], one_epoch: Row) -> str:
    """A line a network and data set; AlexNet on CIFAR-10 is report C's run, its first epoch `one_epoch`."""
    lines = []
    for row in rows:
        first = _validation(folder, row.name)
        lines.append(_network_on_data(row, read_result(folder / row.name), first))
    run = read_result(folder / REPORT_C_CIFAR10)
    lines.append(_network_on_data(one_epoch, run, _validation(folder, one_epoch.name)))
    return "\n".join(lines)


def _network_on_data(row: Row, result: Mapping[str, Any] | None, validated: Sequence[float]) -> str:
    title, data = models.entry(row.config.model.name).title, TITLES[row.config.data.name]
    first = f"{validated[0]:.2f} %" if validated else MISSING
    if result is None:
        return _line(title, data, MISSING, first, *_costs(row), "")
    epochs = f"{data}, {result['epochs']:g} epoch{'s' * (result['epochs'] > 1)}"
    seconds = result["step"] * result["batch_size"] / result["epochs"] / result["images_per_second"]
    time = f"{seconds:,.0f} s, {result['hardware']}"
    return _line(title, epochs, f"{100 * result['test_accuracy']:.2f} %", first, *_costs(row), time)


def _change(row: Row, base: Row, known: Found) -> str:
    changed = {path: value for path, value in row.overrides.items() if path != "seed"}
    name = ", ".join(f"{path.split('.')[1]} {value}" for path, value in changed.items())
    result, baseline = known.get(row.name), known.get(base.name)
    if result is None:
        return _line(name or "none", MISSING, "", "", *_costs(row))
    less = ""
    if baseline is not None and row is not base:
        less = f"{100 * (result['test_accuracy'] - baseline['test_accuracy']):+.2f}"
    return _line(name or "none", _tested(result), less, _validated(result), *_costs(row))


def _pooling(changes: Sequence[Row], known: Found, chance: Chance) -> str:
    """Which pooling wins, as far as chance lets it be said."""
    average = next(row for row in changes if "model.pooling" in row.overrides)
    pair = [known.get(row.name) for row in (changes[0], average)]
    if not all(pair):
        return f"Which pooling wins: {MISSING}."
    most, mean = (100 * result["test_accuracy"] for result in pair if result)
    message = _apart("max pooling", most, "average pooling", mean, chance.of_a_pair(chance.half_width or 0))
    return f"Which pooling wins: {message}."


def _apart(first: str, one: float, second: str, other: float, chance: float) -> str:
    """Which of two accuracies in per cent is ahead, or that chance may have made the difference."""
    if abs(one - other) < chance:
        return f"{abs(one - other):.2f} points apart, within the {chance:.2f} of chance, there is no winner"
    ahead, behind = (first, second) if one > other else (second, first)
    return f"{ahead} is ahead of {behind}, by more than the {chance:.2f} points of chance"


def _tested(result: Mapping[str, Any]) -> str:
    low, high = result["test_interval"]
    return f"{100 * result['test_accuracy']:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def _validated(result: Mapping[str, Any]) -> str:
    return f"{100 * result['validation_accuracy']:.2f} %"


def _by_rate(rows: Sequence[Row]) -> dict[float, dict[str, str]]:
    """The names of the runs of Adam and SGD by learning rate; other changes are left out."""
    found: dict[float, dict[str, str]] = {}
    for row in rows:
        only_rate = not set(row.overrides) - {"seed", "optimizer.learning_rate"}
        if only_rate and row.config.model.name == "lenet5" and row.config.data.name == "mnist":
            rule = row.config.optimizer
            found.setdefault(rule.learning_rate, {})[rule.name] = row.name
    return dict(sorted(found.items()))


def _validation(folder: Path, name: str) -> list[float]:
    """Validation accuracies of a finished run by epoch, in per cent; [] where there is none."""
    if read_result(folder / name) is None:
        return []
    lines = (line for line in curves.read_lines(folder / name) if line["split"] == "validation")
    return [100 * line["values"]["accuracy"] for line in lines]


def _rates(folder: Path, by_rate: Mapping[float, Mapping[str, str]]) -> str:
    lines = []
    for rate, named in by_rate.items():
        cells = []
        for optimizer in ("adam", "sgd"):
            curve = _validation(folder, named[optimizer])
            cells += [f"{curve[0]:.2f} %", f"{curve[-1]:.2f} %"] if curve else [MISSING, MISSING]
        lines.append(_line(f"{rate:g}", *cells))
    return "\n".join(lines)


def _optimizers(folder: Path, by_rate: Mapping[float, Mapping[str, str]], chance: Chance) -> dict[str, str]:
    """Each optimizer's best after one epoch and after the last, who is ahead, and how many rates end near."""
    found = {
        name: {rate: _validation(folder, runs[name]) for rate, runs in by_rate.items()} for name in NAMES
    }
    if not all(curve for by in found.values() for curve in by.values()):
        names = [f"{name}_{what}" for name in NAMES for what in ("first", "best", "ahead")]
        near = "\n".join(_line(f"{points} points", MISSING, MISSING) for points in NEAR_POINTS)
        return dict.fromkeys([*names, "first_text", "best_text"], MISSING) | {"near": near}
    named: dict[str, str] = {}
    for what, place in (("first", 0), ("best", -1)):
        tops = {}
        for name, by in found.items():
            rate = max(by, key=lambda rate, by=by, place=place: by[rate][place])
            tops[name] = by[rate][place]
            named[f"{name}_{what}"] = f"{tops[name]:.2f} % (rate {rate:g})"
        wide = chance.of_a_pair(_half_width_of(max(tops.values()) / 100, HELD_OUT))
        named[f"{what}_text"] = _apart("Adam", tops["adam"], "SGD", tops["sgd"], wide)
        if what == "first":
            for name, other in (("adam", "sgd"), ("sgd", "adam")):
                ahead = [found[name][rate][0] - found[other][rate][0] > wide for rate in by_rate]
                named[f"{name}_ahead"] = str(sum(ahead))
    lines = []
    for points in NEAR_POINTS:
        ends = [[curve[-1] for curve in found[name].values()] for name in NAMES]
        counts = [str(sum(max(each) - end <= points for end in each)) for each in ends]
        lines.append(_line(f"{points} point{'s' * (points > 1)}", *counts))
    return named | {"near": "\n".join(lines)}


def _confusion(result: Mapping[str, Any] | None, name: str) -> dict[str, str]:
    """The confusion matrix with each digit's recall and precision."""
    if result is None:
        names = ("least_class", "most_class", "balanced", "confusion_accuracy", "least_recall")
        return {"confusion_of": name, **dict.fromkeys((*names, "confusion"), MISSING)}
    matrix = np.array(result["tests"]["clean"]["confusion"])
    sizes, (recall, precision) = matrix.sum(1), _recall_and_precision(matrix)
    heads = ["digit", *map(str, range(len(matrix))), "recall", "precision"]
    lines = [_line(*heads), _line(*["---"] * len(heads))]
    for digit, row in enumerate(matrix):
        shares = (f"{recall[digit]:.1f} %", f"{precision[digit]:.1f} %")
        lines.append(_line(str(digit), *map(str, row), *shares))
    return {
        "confusion": "\n".join(lines),
        "confusion_of": name,
        "confusion_accuracy": f"{100 * result['test_accuracy']:.2f} %",
        "balanced": f"{recall.mean():.2f} %",
        "least_recall": f"{recall.min():.1f} % (of {recall.argmin()})",
        "least_class": f"{sizes.min():,}",
        "most_class": f"{sizes.max():,}",
    }


def _recall_and_precision(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By class, in per cent, of counts by (label, prediction)."""
    hits = matrix.diagonal()
    return 100 * hits / matrix.sum(1), 100 * hits / np.maximum(matrix.sum(0), 1)


def _cifar_classes(folder: Path) -> dict[str, str]:
    """A line a class of CIFAR-10: recall and precision of both networks, where they were run."""
    columns, named, sizes = [], {}, set()
    for network, name in (("lenet", LENET_ON_CIFAR10), ("alexnet", REPORT_C_CIFAR10)):
        result = read_result(folder / name)
        if result is None:
            named[f"cifar_{network}"] = f"`{name}`, {MISSING}"
            columns += [[MISSING] * len(CIFAR10)] * 2
            continue
        matrix = np.array(result["tests"]["clean"]["confusion"])
        sizes |= set(matrix.sum(1).tolist())
        message = f"{100 * result['tests']['clean']['accuracy']:.2f} %"
        named[f"cifar_{network}"] = f"`{name}`, accuracy {message}"
        columns += [[f"{each:.1f} %" for each in shares] for shares in _recall_and_precision(matrix)]
    lines = [_line(*cells) for cells in zip(CIFAR10, *columns, strict=True)]
    each = " to ".join(f"{size:,}" for size in sorted(sizes)[:: max(len(sizes) - 1, 1)]) or MISSING
    return named | {"cifar_classes": "\n".join(lines), "cifar_class": each}


def drawn_rates(folder: Path) -> dict[str, Any]:
    """What the picture shows: (rate, validation accuracy) by optimizer, after one epoch and the last."""
    by_rate, drawn = _by_rate(question_rows()), {}
    for optimizer, message in NAMES.items():
        found = {rate: _validation(folder, named[optimizer]) for rate, named in by_rate.items()}
        for place, epochs in ((0, "one epoch"), (-1, "five epochs")):
            points = [(rate, curve[place]) for rate, curve in found.items() if curve]
            drawn[f"{message}, {epochs}"] = points
    return drawn


def draw_rates(path: Path, drawn: Mapping[str, Any]) -> None:
    """Writes the picture of validation accuracy over the learning rate."""
    figure = curves.new_figure((5.2, 3.0))
    axes = figure.subplots()
    for label, points in drawn.items():
        x, y = zip(*points, strict=True) if points else ((), ())
        color = curves.OURS if label.startswith(NAMES["adam"]) else curves.THEIRS
        line = "--" if "one epoch" in label else "-"
        axes.plot(x, y, line, marker="o", color=color, label=label)
    axes.set(xlabel="learning rate", ylabel="validation accuracy, %", xscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    curves.save(path, figure, drawn)


def main() -> None:
    """Writes the page and its picture."""
    folder, docs = REPOSITORY / "results", REPOSITORY / "docs"
    atomic_write(docs / PAGE, page(folder))
    draw_rates(docs / PICTURE, drawn_rates(folder))


if __name__ == "__main__":
    main()
