"""The lines that a command prints when training has finished."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnets import models, reported
from jaxnets.data.sources import TITLES
from jaxnets.evaluation import result as results
from jaxnets.io import printable


def summary_text(result: results.Result, *, workdir: Path, next_command: str) -> str:
    """At most 12 lines: config, network, data, our result and the reported one, speed, next command."""
    title = models.entry(result["model"]).title
    clean = result["tests"].get("clean")
    parameters = f"{result['parameters']:,} parameters"
    if result["auxiliary_parameters"]:
        parameters += f" and {result['auxiliary_parameters']:,} in auxiliary heads"
    if result["freeze_backbone"]:
        parameters += f", {result['trained_parameters']:,} of them trained"
    size = f", {result['image_size']} px" if result["image_size"] else ""
    tested, ours, unit = "test accuracy", "not tested: there are no test examples", "images"
    if clean is not None and "accuracy" in clean:
        ours = f"{results.format_test(clean)} (95 % interval, {clean['examples']:,} images)"
    elif clean is not None:
        tested, ours, unit = "test loss", f"{clean['loss']:.6g}", "examples"
    rate = result["images_per_second"]
    speed = "not known" if rate is None else f"{rate:,.0f} {unit}/s{results.format_head(result)}"
    theirs = None
    if result["entry"]:
        entry = reported.entry(result["entry"])
        theirs = _format_reported(entry, result, title)
        if entry.get("time_hours") is not None:
            speed += f" (report: {entry['hardware']}, about {entry['time_hours']} h)"
    others = ", ".join(
        f"{name.replace('_', ' and ')} {100 * test['accuracy']:.1f} %"
        for name, test in result["tests"].items()
        if name != "clean" and "accuracy" in test
    )
    rows = [
        ("config", f"{result['name']}, {results.format_epochs(result['epochs'])}, seed {result['seed']}"),
        ("network", f"{results.format_network(result, title)}, {parameters}"),
        ("data", f"{TITLES[result['data']]}{size}"),
        ("split", results.format_split(result)),
        (tested, ours),
        ("folds", format_cross_validation(result)),
        ("reported", theirs),
        ("other tests", others),
        ("speed", speed),
        ("stopped early", result["stopped_early"]),
        ("note", result["note"]),
        ("saved", workdir / results.RESULT),
        ("next", next_command),
    ]
    return "\n".join(printable(f"{name:<15}{text}") for name, text in rows if text)


def _format_reported(entry: Mapping[str, Any], result: results.Result, title: str) -> str:
    """The reported accuracy, and how it was obtained."""
    if result["test_accuracy"] is None:
        # The loss in the report was computed before its only training step, so it cannot be compared.
        return f"report {entry['report']} prints no loss after training"
    settings, tested = entry["config"], reported.tested_as(str(result["entry"]))
    notes = [f"report {entry['report']}", title]
    notes += [] if tested == "clean" else [f"on {results.TESTED_ON[tested]}"]
    notes += ["random split"] if entry["report"] == "A" else []
    notes += ["pretrained backbone"] if settings.get("pretrained") else []
    notes += [] if entry["epochs"] == result["epochs"] else [results.format_epochs(entry["epochs"])]
    if settings.get("optimizer") is None and settings.get("learning_rate") is None:
        notes.append("optimizer settings not reported")
    return f"{entry['result']['accuracy_percent']} % ({', '.join(notes)})"


def accuracy_by_seed(cross_validation: results.CrossValidation) -> dict[int, float]:
    """The accuracy over all folds of each seed."""
    seeds = sorted({run["seed"] for run in cross_validation["runs"]})
    found = {}
    for seed in seeds:
        runs = [run for run in cross_validation["runs"] if run["seed"] == seed]
        found[seed] = statistics.fmean([run["accuracy"] for run in runs], [run["examples"] for run in runs])
    return found


def format_cross_validation(result: results.Result) -> str:
    """The accuracies by fold and by seed; "" for a result that is not of a cross-validation."""
    if "cross_validation" not in result:
        return ""
    found = result["cross_validation"]
    accuracies = [100 * run["accuracy"] for run in found["runs"]]
    text = f"{found['folds']} folds, {min(accuracies):.1f} to {max(accuracies):.1f} %"
    by_seed = [100 * accuracy for accuracy in accuracy_by_seed(found).values()]
    if len(by_seed) > 1:
        listed = ", ".join(f"{accuracy:.1f}" for accuracy in by_seed)
        text += f"; {len(by_seed)} seeds, {listed} % (standard deviation {statistics.stdev(by_seed):.2f})"
    return text
