"""The table of results: each reported number beside our runs of its config, and a verdict."""

import collections
import dataclasses
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnets import config as config_lib
from jaxnets import models, reported
from jaxnets.data.sources import TITLES
from jaxnets.evaluation import result as results
from jaxnets.evaluation import result_text
from jaxnets.experiment.run_directory import read_result
from jaxnets.experiment.run_files import CONFIG, FIELDS_ALLOWED_TO_DIFFER

HEADS = (
    *("network", "data, split", "published", "ours: mean of the seeds [95 %]", "verdict", "speed"),
    "runs",
)
CSV_HEADS = (
    *("entry", "name", "model", "data", "split", "image_size", "epochs", "published_percent"),
    *(
        "leaky",
        "leak_test",
        "tested_as",
        "mean_percent",
        "spread_percent",
        "low_percent",
        "high_percent",
        "seeds",
    ),
    *("clean_percent", "verdict", "images_per_second", "hardware", "runs"),
)
AS_THE_REPORTS = ("official", "random", "published")
"""Splits that let into training what the reports' let in."""
PRETRAINED_ON = "ImageNet"
"""What the bodies of report B's transfer were trained on; a run says so in its config."""
NOT_RUN = "not run"
OURS = ":best"
"""Endings of the names of our own configs, which are shown although no report has a number for them."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one config that differ in their seed alone, by their folders' names."""

    entry: str | None
    runs: Mapping[str, Mapping[str, Any]]

    @property
    def first(self) -> Mapping[str, Any]:
        """One of them, for what they share."""
        return next(iter(self.runs.values()))

    @property
    def tested_as(self) -> str:
        """The test that is set beside the published number: measured as that was, where we have it."""
        wanted = reported.tested_as(self.entry) if self.entry else "clean"
        return wanted if all(wanted in run["tests"] for run in self.runs.values()) else "clean"

    @property
    def config(self) -> tuple[Any, ...]:
        """What its runs share, and the overrides that change what is computed."""
        return _config_of(self.first)

    def accuracies(self, test: str) -> list[float]:
        """In per cent, a run each; [] of a regression."""
        found = [run["tests"].get(test, {}).get("accuracy") for run in self.runs.values()]
        return [100 * value for value in found if value is not None]

    def mean(self, test: str) -> float:
        """Returns the mean accuracy over seeds in percent."""
        return statistics.fmean(self.accuracies(test))

    def interval(self, test: str) -> tuple[float, float]:
        """In per cent: the mean of those of the runs that have the test; their seeds share its images."""
        found = [run["tests"].get(test) for run in self.runs.values()]
        ends = [entry["interval"] for entry in found if entry]
        low, high = (100 * statistics.fmean(end) for end in zip(*ends, strict=True))
        return low, high

    def speed(self) -> tuple[float | None, str]:
        """Images a second in training, and where: the median of the runs on what most of them ran on.

        None where no run has a speed.
        """
        hardware = collections.Counter(run["hardware"] for run in self.runs.values())
        where = hardware.most_common(1)[0][0]
        there = [run for run in self.runs.values() if run["hardware"] == where]
        speeds = [run["images_per_second"] for run in there]
        known = [speed for speed in speeds if speed is not None]
        return statistics.median(known) if known else None, where


def groups(folder: Path, *, unpublished: bool = False) -> list[Group]:
    """The finished runs under results/ by reported entry, split and config, in that order.

    Runs of a reported entry and of our own configs that end in `OURS`; with `unpublished`, all runs.
    """
    directories = sorted(path.parent for path in folder.glob(f"*/{results.RESULT}"))
    found = {directory: read_result(directory) for directory in directories}
    made = grouped({directory: run for directory, run in found.items() if run is not None})
    return [group for group in made if group.entry or unpublished or _is_ours(group.first)]


def _is_ours(run: Mapping[str, Any]) -> bool:
    return run["name"].endswith(OURS) and not _changes(run)


def grouped(directories: Mapping[Path, results.Result]) -> list[Group]:
    """The results of these directories by published entry, split, config and data, in that order."""
    found: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    names = collections.Counter(directory.name for directory in directories)
    for directory, run in directories.items():
        name = directory.name if names[directory.name] == 1 else str(directory)
        same = (*_config_of(run), run["data"], run["split_sha256"], _what_is_computed(directory))
        found.setdefault(same, {})[name] = run
    ordered = sorted(found.items(), key=lambda item: str(item[0]))
    made = [Group(next(iter(runs.values()))["entry"], runs) for _, runs in ordered]
    return sorted(made, key=lambda group: group.entry or "~")  # ours alone come last


def _what_is_computed(directory: Path) -> str:
    """The fields of a run's config that change what is computed, as JSON; the seed does not count."""
    config = config_lib.used_fields(config_lib.from_json((directory / CONFIG).read_text()))
    for path in ("seed", *FIELDS_ALLOWED_TO_DIFFER):
        config_lib.set_field(config, path, config_lib.FIELDS[path].default)
    return config_lib.to_json(config)


def _config_of(run: Mapping[str, Any]) -> tuple[Any, ...]:
    shared = (
        "entry",
        "name",
        "split",
        "image_size",
        "epochs",
        "batch_size",
        "weights",
        "truncate_after",
    )
    return (*(run.get(name) for name in shared), *_changes(run))


def _changes(run: Mapping[str, Any]) -> list[str]:
    """The overrides that change what is computed; seeds do not count."""
    free = ("seed", "data.name", *FIELDS_ALLOWED_TO_DIFFER)
    return sorted(o for o in run.get("overrides", ()) if o.partition("=")[0] not in free)


def verdict(group: Group) -> str:
    """Ours beside the reported number: within, above, below, or not comparable, and why."""
    if group.entry is None:
        ours = group.first["name"].endswith(OURS)
        return "ours, beyond the reports" if ours else "no report has a number for it"
    entry = reported.entry(group.entry)
    percent = (entry.get("result") or {}).get("accuracy_percent")
    if percent is None or not group.accuracies("clean"):
        return "not comparable: the report prints no such number after training"
    message = _incomparable(group, entry)
    low, high = group.interval(group.tested_as)
    if message:
        word = f"not comparable: {message}"
    elif percent > high:
        word = "below"
    else:
        word = "above" if percent < low else "within"
    if not message and group.tested_as != "clean":
        clean = statistics.fmean(group.accuracies("clean"))
        word += f", tested as there ({result_text.TESTED_ON[group.tested_as]}); clean {clean:.2f} %"
    return "; ".join([word, *_contradiction(group.entry)])


def _incomparable(group: Group, entry: Mapping[str, Any]) -> str:
    """What differs from the report's experiment, as far as that is known."""
    run, reported_config, reasons = group.first, entry["config"], []
    if run["split"] not in AS_THE_REPORTS:
        reasons.append(f"{run['split']} split, the report's is random")
    if entry["epochs"] not in (None, run["epochs"]):
        reasons.append(f"{run['epochs']:g} epochs, the report's {entry['epochs']}")
    if reported_config.get("optimizer") is not None and _changes(run):
        reasons.append(", ".join(_changes(run)))
    if run.get("truncate_after"):
        reasons.append(f"cut after {run['truncate_after']}")
    if reported_config.get("pretrained"):
        reasons += _other_backbone(run)
    wanted = reported.tested_as(group.entry or "")
    if wanted != group.tested_as:
        reasons.append(f"the report tests {result_text.TESTED_ON[wanted]}")
    reasons += _unknown_config(group.entry or "")  # its image size, optimizer and rate may differ from ours
    return "; ".join(reasons)


def _other_backbone(run: Mapping[str, Any]) -> list[str]:
    """What is said of a body that is not from ImageNet, where the report's is."""
    weights, origin = run.get("weights"), run.get("pretrained_on")
    if weights in (None, "random"):
        return ["from random weights, the report's were trained before"]
    if origin == PRETRAINED_ON:
        return []
    message = origin or f"{Path(weights).name}, of unknown origin"
    return [f"body from {message}, the report's from {PRETRAINED_ON}"]


def _unknown_config(name: str) -> list[str]:
    reported_config = reported.entry(name)["config"]
    unknown = all(reported_config.get(field) is None for field in ("optimizer", "learning_rate"))
    return ["the report does not state its settings"] if unknown else []


def _contradiction(name: str) -> list[str]:
    """A note with both accuracies if a report's text contradicts its log."""
    claims = reported.entry(name).get("claimed") or {}
    concluded = (claims.get("conclusions") or {}).get("test_accuracy_percent")
    claimed = claims.get("accuracy_percent", concluded)
    logged = (reported.entry(name).get("result") or {}).get("accuracy_percent")
    if claimed is None or logged is None or claimed in (logged, int(logged)):  # "98 %" for 98.66 %
        return []
    return [f"the report contradicts itself: its text says {claimed:g} %, its own log {logged:g} %"]


def rows(folder: Path) -> list[dict[str, Any]]:
    """A row a group, and one for each published accuracy that no run is of; values by CSV_HEADS."""
    made = groups(folder)
    untried = set(reported.names()) - {group.entry for group in made}
    missing = [
        {
            "entry": name,
            **_of_entry(name),
            "verdict": _not_run(name),
        }
        for name in untried
        if _of_entry(name)["published_percent"] is not None
    ]
    found = [*rows_of(made), *missing]
    return sorted(found, key=lambda row: row["entry"] or "~")


def rows_of(made: Sequence[Group]) -> list[dict[str, Any]]:
    """A row a group."""
    return [_row(group) for group in made]


def _not_run(name: str) -> str:
    return "; ".join([NOT_RUN, *_unknown_config(name), *_contradiction(name)])


def _of_entry(name: str) -> dict[str, Any]:
    entry = reported.entry(name)
    percent = (entry.get("result") or {}).get("accuracy_percent")
    return {"model": entry["model"], "data": entry["data"], "published_percent": percent}


def _row(group: Group) -> dict[str, Any]:
    run, test = group.first, group.tested_as
    row = {name: run[name] for name in ("name", "model", "data", "split", "image_size", "epochs")}
    row |= {"entry": group.entry, "tested_as": test, "seeds": len(group.runs)}
    if group.entry is not None:
        row["published_percent"] = _of_entry(group.entry)["published_percent"]
    row |= {"leaky": _leaky(run), "leak_test": (run.get("leakage") or {}).get("test")}
    accuracies = group.accuracies(test)
    if accuracies:
        low, high = group.interval(test)
        row |= {"mean_percent": statistics.fmean(accuracies), "low_percent": low}
        row |= {"high_percent": high, "clean_percent": statistics.fmean(group.accuracies("clean"))}
    if len(accuracies) > 1:
        row["spread_percent"] = statistics.stdev(accuracies)
    speed, hardware = group.speed()
    row |= {"verdict": verdict(group), "images_per_second": speed, "hardware": hardware}
    return row | {"runs": " ".join(group.runs), "result": run}


def _leaky(run: Mapping[str, Any]) -> str:
    """LEAKY, clean, or "" where nobody knows."""
    if results.is_leaky(run):
        return "LEAKY"
    return "" if (run.get("leakage") or {}).get("test") is None else "clean"


def as_markdown(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The rows as README shows them, by HEADS."""
    return [_format(row) for row in found]


def _format(row: Mapping[str, Any]) -> tuple[str, ...]:
    title = models.entry(row["model"]).title
    data = TITLES[row["data"]]
    percent = row.get("published_percent")
    report = f"{percent:g} % (report {row['entry'][0]})" if percent is not None else ""
    run = row.get("result")
    if run is None:
        return title, data, report, "", row["verdict"], "", ""
    pixels = f", {run['image_size']} px" if run["image_size"] else ""
    network = f"{result_text.format_network(run, title)}{pixels}, {run['epochs']:g} epochs"
    split = result_text.format_split_kind(run)
    rate = row["images_per_second"]
    rate_text = "not known" if rate is None else f"{rate:,.0f} a second{result_text.format_head(run)}"
    speed = f"{rate_text}, {row['hardware']}"
    names = f"`{shortened(row['runs'].split())}`"
    return network, f"{data}, {split}", report, _ours(row, run), row["verdict"], speed, names


def _ours(row: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    if row.get("mean_percent") is None:
        return f"loss {run['tests']['clean']['loss']:.4g}"
    spread = row.get("spread_percent")
    seeds = "1 seed" if spread is None else f"{row['seeds']} seeds ± {spread:.2f}"
    return f"{row['mean_percent']:.2f} % [{row['low_percent']:.2f}, {row['high_percent']:.2f}], {seeds}"


def shortened(names: Sequence[str]) -> str:
    """lenet_mnist-adam-s0, -s1, -s2 as lenet_mnist-adam-s0..2; others are listed."""
    parts = [re.fullmatch(r"(.*-s)(\d+)", name) for name in names]
    stems = {part[1] for part in parts if part}
    if len(names) < 2 or not all(parts) or len(stems) != 1:
        return "`, `".join(names)
    seeds = sorted(int(part[2]) for part in parts if part)
    whole = seeds == list(range(seeds[0], seeds[-1] + 1))
    return stems.pop() + (f"{seeds[0]}..{seeds[-1]}" if whole else ",".join(map(str, seeds)))


def as_csv(found: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """The rows by CSV_HEADS, numbers to four decimals."""

    def cell(value: Any) -> Any:
        if value is None:
            return ""
        return round(value, 4) if isinstance(value, float) else value

    return [[cell(row.get(head)) for head in CSV_HEADS] for row in found]
