"""Writes docs/lenet_and_alexnet.md from results/: python tests/pages/make_lenet_page.py.

The prose is in the template beside this file, {{name}} for what is measured; a run that is not there is told.
"""

import contextlib
import io
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxnets import models, published
from jaxnets.app.comparison import results_table
from jaxnets.app.comparison.curves import read_lines
from jaxnets.app.summary import layers_of
from jaxnets.app.tables import Row, read_table
from jaxnets.data.catalog import TITLES
from jaxnets.evaluation import result as results
from jaxnets.evaluation.statistics import wilson_interval
from jaxnets.files import write_whole

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
PAGE, PICTURE = "lenet_and_alexnet.md", "lenet_rates.png"
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
MISSING = "not run"
QUESTIONS, SEARCH, BEST = "lenet_questions", "lenet_search", "lenet_best"
HELD_OUT = 5_001
"""Images of MNIST's training set, a twelfth, by whose accuracy our recipe was chosen."""
NEAR_POINTS = 2.0
"""Of validation accuracy below an optimizer's best: what the page counts as near."""
CHANNELS = {"mnist": 1, "cifar10": 3}
TESTS = {
    "clean": "clean images",
    "augmented": "augmented images",
    "dropout": "clean images, dropout on",
    "augmented_dropout": "augmented images, dropout on",
}
Found = Mapping[str, Mapping[str, Any]]


def page(folder: Path) -> str:
    """The text of the page, of the results in a folder."""
    named = {**values(folder, question_rows()), **_beyond(folder)}
    return PLACEHOLDER.sub(lambda found: named[found[1]], (HERE / PAGE).read_text())


def question_rows() -> list[Row]:
    """The rows of configs/tables/lenet_questions.py, whose paths begin at the repository."""
    return _rows(QUESTIONS)


def _rows(table: str) -> list[Row]:
    with contextlib.chdir(REPOSITORY):
        return read_table(table)


def values(folder: Path, rows: Sequence[Row]) -> dict[str, str]:
    """Every number of the page, as it is shown there."""
    found = {row.name: results.read(folder / row.name) for row in rows}
    known: Found = {name: result for name, result in found.items() if result}
    mnist = [row for row in rows if row.recipe.name == f"{QUESTIONS}:mnist"]
    base = mnist[0]
    changes = [row for row in mnist if "optimizer.learning_rate" not in row.overrides]
    return {
        "reports": _reports(folder),
        "swapped": "\n".join(_swapped(row, known) for row in (base, *rows[-2:])),
        "changes": "\n".join(_change(row, known) for row in changes),
        "half_width": _half_width(known.get(base.name)),
        "rates": _rates(folder, _by_rate(rows)),
        **_robustness(folder, _by_rate(rows)),
        **_confusion(known.get(base.name), base.name),
    }


def _reports(folder: Path) -> str:
    """A line an entry and test, of the runs that have it; the entries without runs are told."""
    lines = []
    for name in ("C/lenet5", "E/lenet5", "C/alexnet", "E/alexnet"):
        entry = published.entry(name)
        title = f"{models.entry(entry['model']).title}, report {name[0]}"
        groups = [group for group in results_table.groups(folder) if group.entry == name]
        if not groups:
            lines.append(
                _line(title, TESTS[published.tested_as(name)], MISSING, _percent_of(entry))
            )
        for group in groups:
            for test, told in TESTS.items():
                if group.accuracies(test):
                    theirs = _percent_of(entry) if test == published.tested_as(name) else ""
                    lines.append(_line(title, told, _interval(group, test), theirs))
    return "\n".join(lines)


def _beyond(folder: Path) -> dict[str, str]:
    """Our own recipe's seeds, and what it was chosen from."""
    found = [results.read(folder / row.name) for row in _rows(BEST)]
    known = {str(number): result for number, result in enumerate(found) if result}
    told = MISSING
    if known:
        group = results_table.Group(None, known)
        each = group.accuracies("clean")
        seeds = ", ".join(f"{accuracy:.2f}" for accuracy in each)
        told = f"**{_interval(group, 'clean')}** ({seeds} %)."
    rows = _rows(SEARCH)
    searched = [results.read(folder / row.name) for row in rows]
    validated = [result["validation_accuracy"] for result in searched if result]
    apart = half_width = MISSING
    if validated:
        apart = f"{100 * (max(validated) - min(validated)):.2f} points"
        half_width = f"{_half_width_of(validated[0], HELD_OUT):.2f} points"
    return {
        "beyond": told,
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


def _searched(row: Row, begun: Row, result: Mapping[str, Any] | None) -> str:
    changed = row.overrides.items() - begun.overrides.items()
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
    config = row.recipe.copy_and_resolve_references()
    config.model.num_classes = 10
    shape = (config.data.image_size, config.data.image_size, CHANNELS[config.data.name])
    layers = layers_of(config.model, shape)
    parameters = sum(layer.parameters for layer in layers)
    return f"{parameters:,}", f"{sum(layer.multiply_adds for layer in layers):,}"


def _swapped(row: Row, known: Found) -> str:
    result = known.get(row.name)
    title = models.entry(row.recipe.model.name).title
    told = f"{100 * result['test_accuracy']:.2f} %" if result else MISSING
    epochs = f", {row.recipe.train.epochs} epoch{'s' * (row.recipe.train.epochs > 1)}"
    speed = f"{result['images_per_second']:,.0f} images" if result else ""
    return _line(title, TITLES[row.recipe.data.name] + epochs, told, *_costs(row), speed)


def _change(row: Row, known: Found) -> str:
    changed = {path: value for path, value in row.overrides.items() if path != "seed"}
    name = ", ".join(f"{path.split('.')[1]} {value}" for path, value in changed.items())
    result = known.get(row.name)
    if result is None:
        return _line(name or "none", MISSING, "", *_costs(row))
    return _line(name or "none", _tested(result), _validated(result), *_costs(row))


def _tested(result: Mapping[str, Any]) -> str:
    low, high = result["test_interval"]
    return f"{100 * result['test_accuracy']:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def _validated(result: Mapping[str, Any]) -> str:
    return f"{100 * result['validation_accuracy']:.2f} %"


def _half_width(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return f"({MISSING})"
    low, high = result["test_interval"]
    return f"{50 * (high - low):.2f} points"


def _by_rate(rows: Sequence[Row]) -> dict[float, dict[str, str]]:
    """The names of the runs of Adam and SGD by learning rate; other changes are left out."""
    found: dict[float, dict[str, str]] = {}
    for row in rows:
        only_rate = not set(row.overrides) - {"seed", "optimizer.learning_rate"}
        if only_rate and row.recipe.model.name == "lenet5" and row.recipe.data.name == "mnist":
            rule = row.recipe.optimizer
            found.setdefault(rule.learning_rate, {})[rule.name] = row.name
    return dict(sorted(found.items()))


def _validation(folder: Path, name: str) -> list[float]:
    """Validation accuracies of a finished run by epoch, in per cent; [] where there is none."""
    if results.read(folder / name) is None:
        return []
    lines = (line for line in read_lines(folder / name) if line["split"] == "validation")
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


def _robustness(folder: Path, by_rate: Mapping[float, Mapping[str, str]]) -> dict[str, str]:
    """Each optimizer's best, after the last and after one epoch, and how many rates end near it."""
    named = {}
    for optimizer in ("adam", "sgd"):
        curves = {rate: _validation(folder, runs[optimizer]) for rate, runs in by_rate.items()}
        curves = {rate: curve for rate, curve in curves.items() if curve}
        if not curves:
            named |= {f"{optimizer}_{name}": MISSING for name in ("best", "first", "near")}
            continue
        best = max(curves, key=lambda rate: curves[rate][-1])
        first = max(curves, key=lambda rate: curves[rate][0])
        last = curves[best][-1]
        near = sum(last - curve[-1] <= NEAR_POINTS for curve in curves.values())
        named |= {
            f"{optimizer}_best": f"{last:.2f} % (rate {best:g})",
            f"{optimizer}_first": f"{curves[first][0]:.2f} % (rate {first:g})",
            f"{optimizer}_near": str(near),
        }
    return named


def _confusion(result: Mapping[str, Any] | None, name: str) -> dict[str, str]:
    """The confusion matrix with each digit's recall and precision."""
    if result is None:
        counts = {"least_class": MISSING, "most_class": MISSING}
        return {"confusion": MISSING, "confusion_of": f"`{name}`, {MISSING}", **counts}
    matrix = np.array(result["tests"]["clean"]["confusion"])
    sizes, hits = matrix.sum(1), matrix.diagonal()
    recall, precision = 100 * hits / sizes, 100 * hits / np.maximum(matrix.sum(0), 1)
    heads = ["digit", *map(str, range(len(matrix))), "recall", "precision"]
    lines = [_line(*heads), _line(*["---"] * len(heads))]
    for digit, row in enumerate(matrix):
        shares = (f"{recall[digit]:.1f} %", f"{precision[digit]:.1f} %")
        lines.append(_line(str(digit), *map(str, row), *shares))
    return {
        "confusion": "\n".join(lines),
        "confusion_of": f"`{name}`",
        "least_class": f"{sizes.min():,}",
        "most_class": f"{sizes.max():,}",
    }


def draw_rates(folder: Path) -> bytes:
    """The picture of validation accuracy over the learning rate, after one epoch and the last."""
    from matplotlib.figure import Figure

    by_rate = _by_rate(question_rows())
    figure = Figure(figsize=(5.2, 3.0), layout="constrained")
    axes = figure.subplots()
    for optimizer, color in (("adam", "#1f5fa8"), ("sgd", "#b8480b")):
        for place, line, label in ((0, "--", "one epoch"), (-1, "-", "five epochs")):
            curves = {
                rate: _validation(folder, named[optimizer]) for rate, named in by_rate.items()
            }
            points = [(rate, curve[place]) for rate, curve in curves.items() if curve]
            x, y = zip(*points, strict=True) if points else ((), ())
            told = f"{'Adam' if optimizer == 'adam' else 'SGD'}, {label}"
            axes.plot(x, y, line, marker="o", color=color, label=told)
    axes.set(xlabel="learning rate", ylabel="validation accuracy, %", xscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    drawing, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawing, format="png", dpi=90)
    Image.open(drawing).convert("RGB").quantize(32).save(small, format="png", optimize=True)
    return small.getvalue()


def main() -> None:
    """Writes the page and its picture."""
    folder = REPOSITORY / "results"
    write_whole(REPOSITORY / "docs" / PAGE, page(folder))
    write_whole(REPOSITORY / "docs" / PICTURE, draw_rates(folder))


if __name__ == "__main__":
    main()
