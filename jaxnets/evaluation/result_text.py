"""What is said of a result in text: the summary that a run prints, and phrases for tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnets.evaluation.result import DATASETS_WITH_DUPLICATES, RESULT, Result, SplitFields, Test, is_leaky
from jaxnets.io import printable
from jaxnets.reported import tested_as

TESTED_ON = {
    "clean": "clean images",
    "augmented": "augmented images",
    "dropout": "clean images, dropout on",
    "augmented_dropout": "augmented images, dropout on",
}
"""Descriptions of the keys of `tests`."""


def summary_text(
    result: Result, *, title: str, data_title: str, workdir: Path, reported: Mapping[str, Any] | None
) -> str:
    """At most 12 lines: network, our result next to the reported one, split, speed, next command."""
    label, clean = result["name"], result["tests"]["clean"]
    indent = max(22, len(label) + 2)
    parameters = f"{result['parameters']:,} parameters"
    if result["auxiliary_parameters"]:
        parameters += f" and {result['auxiliary_parameters']:,} in auxiliary heads"
    if result["freeze_backbone"]:
        parameters += f", {result['trained_parameters']:,} of them trained"
    size = f"{result['image_size']} px, " if result["image_size"] else ""
    about = f"{data_title}, {size}{_epochs(result['epochs'])}, seed {result['seed']}"
    # The loss in the report was computed before its only training step, so it cannot be compared.
    published = f"report {reported['report']} prints no loss after training" if reported else ""
    tested, ours, unit = "test loss", f"{clean['loss']:.6g}", "examples"
    if "accuracy" in clean:
        published = _published(reported, result, title) if reported else ""
        tested, ours, unit = "test accuracy", format_test(clean), "images"
    speed = "not known"
    if result["images_per_second"] is not None:
        speed = f"{result['images_per_second']:,.0f} {unit}/s{format_head(result)}"
    hours = ""
    if reported and reported.get("time_hours") is not None:
        hours = f"{reported['hardware']}, about {reported['time_hours']} h"
    others = ", ".join(
        f"{name.replace('_', ' and ')} {100 * test['accuracy']:.1f} %"
        for name, test in result["tests"].items()
        if name != "clean" and "accuracy" in test
    )
    rows = [
        (label, f"{format_network(result, title)}, {parameters}, {about}"),
        ("", f"{'ours':<24}{'reported' if reported else ''}"),
        (tested, f"{ours:<24}{published}"),
        ("other tests", others),
        ("split", format_split(result)),
        ("speed", f"{speed:<24}{hours}"),
        ("stopped early", result["stopped_early"]),
        ("note", result["note"]),
        ("saved", workdir / RESULT),
        ("next", f"python scripts/evaluate.py --workdir {workdir}"),
    ]
    return "\n".join(printable(f"{name:<{indent}}{text}").rstrip() for name, text in rows if text)


def _published(entry: Mapping[str, Any], result: Result, title: str) -> str:
    """The reported accuracy, and how it was obtained."""
    settings, tested = entry["config"], tested_as(str(result["entry"]))
    notes = [f"report {entry['report']}", title]
    notes += [] if tested == "clean" else [f"on {TESTED_ON[tested]}"]
    notes += ["random split"] if entry["report"] == "A" else []
    notes += ["pretrained backbone"] if settings.get("pretrained") else []
    notes += [] if entry["epochs"] == result["epochs"] else [_epochs(entry["epochs"])]
    if settings.get("optimizer") is None and settings.get("learning_rate") is None:
        notes.append("optimizer settings not reported")
    return f"{entry['result']['accuracy_percent']} %   {', '.join(notes)}"


def _epochs(count: float) -> str:
    return f"{count:g} epoch" + ("" if count == 1 else "s")


def format_head(result: Result) -> str:
    """A note on a speed that was measured with only the head trained, on cached features; else ""."""
    cached = result["on_cached_features"]
    if cached is None:  # version 1 of result.json lacks the field
        cached = result["freeze_backbone"]
    return " (head only, cached features)" if cached else ""


def format_network(result: Result, title: str) -> str:
    """The network, where it is truncated, and what its backbone was pretrained on, e.g. for tables."""
    truncated = f" up to {result['truncate_after']}" if result["truncate_after"] else ""
    weights = result["weights"]
    if weights is None:
        return f"{title}{truncated}"
    state = "frozen" if result["freeze_backbone"] else "fine-tuned"
    name = "random weights" if weights == "random" else Path(weights).name
    return f"{title}{truncated} (backbone: {result['pretrained_on'] or name}, {state})"


def format_split(fields: SplitFields) -> str:
    """The kind of split, and the fraction of held-out images with a near-duplicate in training."""
    split = format_split_kind(fields)
    if not is_leaky(fields):
        return split
    remedy = "" if fields["split"] == "grouped" else " (--config.data.split=grouped)"
    for part in ("test", "validation"):
        if leaked := fields["leakage"].get(part):
            images = f"{100 * leaked:.1f} % of {part} images"
            return f"{split}: {images} have a near-duplicate in training{remedy}"
    return f"{split}: {DATASETS_WITH_DUPLICATES[fields['data']]} (fraction not measured)"


def format_split_kind(fields: SplitFields) -> str:
    """The kind of split, marked if it leaks: "random, LEAKY"."""
    return f"{fields['split']}{format_grouping(fields)}{', LEAKY' if is_leaky(fields) else ''}"


def format_grouping(fields: SplitFields) -> str:
    """Names the groups of a grouped split (" by ..."); "" for the source's default groups."""
    level = None if fields["group_level"] == "group" else fields["group_level"]
    names = ", ".join(name for name in (fields["groups"], level) if name)
    return f" by {names}" if names and fields["split"] == "grouped" else ""


def format_test(test: Test) -> str:
    """The accuracy of a test with its interval, or the loss of a regression."""
    if "accuracy" not in test:
        return f"loss {test['loss']:.4g}"
    low, high = test["interval"]
    return f"{100 * test['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
