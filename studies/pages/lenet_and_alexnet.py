"""Writes docs/lenet_and_alexnet.md from results/: python -m studies.pages.lenet_and_alexnet.

The text is in templates/lenet_and_alexnet.md, with {{placeholders}} for measured values.
"""

import contextlib
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxnets import models, reported
from jaxnets.commands.summary import layers_of
from jaxnets.data.sources import TITLES
from jaxnets.data.sources.cifar10 import CLASSES as CIFAR10
from jaxnets.evaluation import result as results
from jaxnets.evaluation.result import Result
from jaxnets.experiment.run_directory import read_result
from jaxnets.io import atomic_write
from studies.pages import lenet_optimizers, results_table
from studies.pages.lenet_optimizers import HELD_OUT, Noise, half_width, validation_accuracies
from studies.pages.markdown import NOT_RUN, csv_text, table_row
from studies.pages.results_table import Group
from studies.sweeps import Row, read_table

TEMPLATES = Path(__file__).parent / "templates"
REPOSITORY = Path(__file__).parents[2]
PAGE, PICTURE = "lenet_and_alexnet.md", "lenet_rates.png"
CONFUSION = "tables/lenet_confusion.csv"
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
QUESTIONS, SEARCH, BEST = "lenet_questions", "lenet_search", "lenet_best"
CHANNELS = {"mnist": 1, "cifar10": 3}
REPORT_C, REPORT_C_CIFAR10 = "lenet_mnist-adam-s0", "alexnet_cifar10-adam-s0"
LENET_ON_CIFAR10 = "lenet_questions-cifar10-s0"
ENTRIES = ("C/lenet5", "E/lenet5", "C/alexnet", "E/alexnet")
NOT_CLEAN = ("C/alexnet", "E/alexnet")
"""Entries whose reports did not test on clean images in evaluation mode."""


def page(folder: Path) -> str:
    """Returns the text of the page for a folder of results."""
    groups, rows = results_table.groups(folder), read_rows(QUESTIONS)
    values = {
        "reports": _reported_runs(groups),
        **_test_conditions(groups),
        **_best_config(folder),
        **_ablations(folder, groups, rows),
        **_confusion(read_result(folder / REPORT_C)),
        **_cifar_classes(folder),
    }
    return PLACEHOLDER.sub(lambda match: values[match[1]], (TEMPLATES / PAGE).read_text())


def read_rows(table: str) -> list[Row]:
    """Returns the rows of a table in configs/sweeps; config paths are relative to the repository."""
    with contextlib.chdir(REPOSITORY):
        return read_table(table)


def _reported_runs(groups: Sequence[Group]) -> str:
    """Returns a row per reported entry, config and test."""
    lines = []
    for entry in ENTRIES:
        title, number = _title(entry), f"{reported.entry(entry)['result']['accuracy_percent']:g} %"
        found = [group for group in groups if group.entry == entry]
        if not found:
            test = results.TESTED_ON[reported.tested_as(entry)]
            lines.append(table_row(title, test, NOT_RUN, number))
        for group in found:
            for test, description in results.TESTED_ON.items():
                if group.accuracies(test):
                    theirs = number if test == reported.tested_as(entry) else ""
                    lines.append(table_row(title, description, _mean_and_interval(group, test), theirs))
    return "\n".join(lines)


def _title(entry: str) -> str:
    return f"{models.entry(reported.entry(entry)['model']).title}, report {entry[0]}"


def _mean_and_interval(group: Group, test: str) -> str:
    low, high = group.interval(test)
    count = len(group.runs)
    return f"{group.mean(test):.2f} % [{low:.2f}, {high:.2f}], {count} seed{'s' * (count > 1)}"


def _test_conditions(groups: Sequence[Group]) -> dict[str, str]:
    """Returns how much the reports' test conditions cost compared with clean images."""
    lines, text = [], f"Report E's config is {NOT_RUN}."
    for entry in NOT_CLEAN:
        found = [group for group in groups if group.entry == entry]
        if not found:
            lines.append(table_row(_title(entry), NOT_RUN, "", "", ""))
        for group in found:
            clean = group.mean("clean")
            tests = [test for test in results.TESTED_ON if test != "clean"]
            costs = [f"{clean - group.mean(test):.2f}" if group.accuracies(test) else "" for test in tests]
            lines.append(table_row(_title(entry), f"{clean:.2f} %", *costs))
            if reported.tested_as(entry) == "augmented_dropout":
                percent = reported.entry(entry)["result"]["accuracy_percent"]
                cost = clean - group.mean("augmented_dropout")
                text = (
                    f"Together they cost {cost:.2f} points, so report E's {percent:g} % corresponds to "
                    f"about {percent + cost:.1f} % on clean images."
                )
    return {"accidents": "\n".join(lines), "accidents_text": text}


def _best_config(folder: Path) -> dict[str, str]:
    """Returns the accuracy of our best config, and the search by which it was selected."""
    seeds = {row.name: read_result(folder / row.name) for row in read_rows(BEST)}
    seeds = {name: result for name, result in seeds.items() if result is not None}
    text = spread = interval = NOT_RUN
    if seeds:
        group = Group(None, seeds)
        accuracies = ", ".join(f"{accuracy:.2f}" for accuracy in group.accuracies("clean"))
        text = f"**{_mean_and_interval(group, 'clean')}** ({accuracies} %)."
    rows = read_rows(SEARCH)
    stored = [read_result(folder / row.name) for row in rows]
    validated = [result["validation_accuracy"] for result in stored if result is not None]
    if validated:
        spread = f"{100 * (max(validated) - min(validated)):.2f} points"
        interval = f"{half_width(validated[0], HELD_OUT):.2f} points"
    lines = []
    for row, result in zip(rows, stored, strict=True):
        name = _format_changes({k: v for k, v in row.overrides.items() if rows[0].overrides.get(k) != v})
        cells = (NOT_RUN, "") if result is None else (_validated(result), _tested(result))
        lines.append(table_row(name, *cells))
    return {"beyond": text, "search": "\n".join(lines), "search_apart": spread, "search_half_width": interval}


def _format_changes(overrides: Mapping[str, object]) -> str:
    changes = [f"{path.split('.')[1]} {value}" for path, value in overrides.items() if path != "seed"]
    return ", ".join(changes) or "none"


def _tested(result: Result) -> str:
    low, high = result["test_interval"]
    return f"{100 * result['test_accuracy']:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def _validated(result: Result) -> str:
    return f"{100 * result['validation_accuracy']:.2f} %"


def _ablations(folder: Path, groups: Sequence[Group], rows: Sequence[Row]) -> dict[str, str]:
    """Returns the values of the sections made from the table `QUESTIONS`."""
    by_variant: dict[str, list[Row]] = {}
    for row in rows:
        by_variant.setdefault(row.config.name.partition(":")[2], []).append(row)
    lenet = [row for row in by_variant["mnist"] if "optimizer.learning_rate" not in row.overrides]
    alexnet = by_variant["alexnet_cifar10"]
    noise = _noise(groups, read_result(folder / lenet[0].name))
    values = dict.fromkeys(("half_width", "seed_deviation", "difference"), NOT_RUN)
    if noise.half_width is not None:
        values = {
            "half_width": f"{noise.half_width:.2f}",
            "seed_deviation": f"{noise.seed_deviation:.2f}",
            "difference": f"{noise.of_difference(noise.half_width):.2f} points",
        }
    other_data = [lenet[0], *by_variant["cifar10"], *by_variant["alexnet_mnist"]]
    return {
        **values,
        "swapped": "\n".join(
            [
                *(_network_on_data(folder, row, row.name) for row in other_data),
                _network_on_data(folder, alexnet[0], REPORT_C_CIFAR10),
            ]
        ),
        "changes": "\n".join(_ablation(folder, row, lenet[0]) for row in lenet),
        "alexnet_changes": "\n".join(_ablation(folder, row, alexnet[0]) for row in alexnet),
        "pooling_text": _pooling(folder, lenet, noise),
        **lenet_optimizers.section(lenet_optimizers.learning_curves(folder, rows), noise),
    }


def _noise(groups: Sequence[Group], result: Result | None) -> Noise:
    """Returns the variation over seeds of report C's LeNet-5 and the interval of one run."""
    seeds = [group.accuracies("clean") for group in groups if group.entry == "C/lenet5"][:1]
    deviation = statistics.stdev(seeds[0]) if seeds and len(seeds[0]) > 1 else 0.0
    if result is None:
        return Noise(deviation, None)
    low, high = result["test_interval"]
    return Noise(deviation, 50 * (high - low))


def _network_on_data(folder: Path, one_epoch: Row, name: str) -> str:
    """Returns a row for the run `name`; `one_epoch` has the accuracy after an epoch."""
    title = f"{models.entry(one_epoch.config.model.name).title}, {TITLES[one_epoch.config.data.name]}"
    validated, result = validation_accuracies(folder, one_epoch.name), read_result(folder / name)
    first = f"{validated[0]:.2f} %" if validated else NOT_RUN
    if result is None:
        return table_row(title, NOT_RUN, first, *_costs(one_epoch), "")
    title += f", {result['epochs']:g} epoch{'s' * (result['epochs'] > 1)}"
    seconds = result["step"] * result["batch_size"] / result["epochs"] / result["images_per_second"]
    time, accuracy = f"{seconds:,.0f} s, {result['hardware']}", f"{100 * result['test_accuracy']:.2f} %"
    return table_row(title, accuracy, first, *_costs(one_epoch), time)


def _costs(row: Row) -> tuple[str, str]:
    """Returns parameters and multiply-adds of a row's network."""
    config = row.config.copy_and_resolve_references()
    config.model.num_classes = 10
    shape = (config.data.image_size, config.data.image_size, CHANNELS[config.data.name])
    layers = layers_of(config.model, shape)
    parameters = sum(layer.parameters for layer in layers)
    return f"{parameters:,}", f"{sum(layer.multiply_adds for layer in layers):,}"


def _ablation(folder: Path, row: Row, base: Row) -> str:
    name = _format_changes(row.overrides)
    result, baseline = read_result(folder / row.name), read_result(folder / base.name)
    if result is None:
        return table_row(name, NOT_RUN, "", "", *_costs(row))
    difference = ""
    if baseline is not None and row is not base:
        difference = f"{100 * (result['test_accuracy'] - baseline['test_accuracy']):+.2f}"
    return table_row(name, _tested(result), difference, _validated(result), *_costs(row))


def _pooling(folder: Path, ablations: Sequence[Row], noise: Noise) -> str:
    average = next(row for row in ablations if "model.pooling" in row.overrides)
    stored = [read_result(folder / row.name) for row in (ablations[0], average)]
    accuracies = [100 * result["test_accuracy"] for result in stored if result is not None]
    if len(accuracies) < 2:
        return f"Pooling: {NOT_RUN}."
    margin = noise.of_difference(noise.half_width or 0)
    text = lenet_optimizers.compare("max pooling", accuracies[0], "average pooling", accuracies[1], margin)
    return f"Pooling: {text}."


def _confusion(result: Result | None) -> dict[str, str]:
    """Returns recall and precision of each digit by report C's LeNet-5."""
    if result is None:
        names = ("least_class", "most_class", "balanced", "confusion_accuracy", "least_recall", "confusion")
        return {"confusion_of": REPORT_C, **dict.fromkeys(names, NOT_RUN)}
    matrix = np.array(result["tests"]["clean"]["confusion"])
    sizes, (recall, precision) = matrix.sum(1), _recall_and_precision(matrix)
    counts = zip(sizes, matrix.diagonal(), recall, precision, strict=True)
    lines = [
        table_row(str(digit), f"{size:,}", f"{hits:,}", f"{found:.1f} %", f"{right:.1f} %")
        for digit, (size, hits, found, right) in enumerate(counts)
    ]
    return {
        "confusion": "\n".join(lines),
        "confusion_of": REPORT_C,
        "confusion_accuracy": f"{100 * result['test_accuracy']:.2f} %",
        "balanced": f"{recall.mean():.2f} %",
        "least_recall": f"{recall.min():.1f} % (digit {recall.argmin()})",
        "least_class": f"{sizes.min():,}",
        "most_class": f"{sizes.max():,}",
    }


def confusion_csv(folder: Path) -> str:
    """Returns the confusion matrix of report C's LeNet-5: a row per digit, a column per prediction."""
    result = read_result(folder / REPORT_C)
    matrix = result["tests"]["clean"]["confusion"] if result is not None else []
    heads = ("digit", *(f"predicted {digit}" for digit in range(len(matrix))))
    return csv_text(heads, [(digit, *counts) for digit, counts in enumerate(matrix)])


def _recall_and_precision(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns recall and precision by class, in percent, of counts by (label, prediction)."""
    hits = matrix.diagonal()
    return 100 * hits / matrix.sum(1), 100 * hits / np.maximum(matrix.sum(0), 1)


def _cifar_classes(folder: Path) -> dict[str, str]:
    """Returns a row per class of CIFAR-10: recall and precision of both networks."""
    columns, values, sizes = [], {}, set()
    for network, name in (("lenet", LENET_ON_CIFAR10), ("alexnet", REPORT_C_CIFAR10)):
        result = read_result(folder / name)
        if result is None:
            values[f"cifar_{network}"] = f"`{name}`, {NOT_RUN}"
            columns += [[NOT_RUN] * len(CIFAR10)] * 2
            continue
        test = result["tests"]["clean"]
        matrix = np.array(test["confusion"])
        sizes |= set(matrix.sum(1).tolist())
        values[f"cifar_{network}"] = f"`{name}`, accuracy {100 * test['accuracy']:.2f} %"
        columns += [[f"{each:.1f} %" for each in percents] for percents in _recall_and_precision(matrix)]
    lines = [table_row(*cells) for cells in zip(CIFAR10, *columns, strict=True)]
    size = " to ".join(f"{each:,}" for each in sorted(sizes)[:: max(len(sizes) - 1, 1)]) or NOT_RUN
    return values | {"cifar_classes": "\n".join(lines), "cifar_class": size}


def drawn_rates(folder: Path) -> dict[str, object]:
    """Returns the points of the picture."""
    return lenet_optimizers.drawn_rates(lenet_optimizers.learning_curves(folder, read_rows(QUESTIONS)))


def main() -> None:
    """Writes the page, its confusion matrix and its picture."""
    folder, docs = REPOSITORY / "results", REPOSITORY / "docs"
    atomic_write(docs / PAGE, page(folder))
    atomic_write(docs / CONFUSION, confusion_csv(folder))
    lenet_optimizers.draw_rates(docs / PICTURE, drawn_rates(folder))


if __name__ == "__main__":
    main()
