"""The results table: each reported number next to our runs of the same config, and a verdict."""

import collections
import dataclasses
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from jaxnets import config as config_lib
from jaxnets import models, reported
from jaxnets.data.sources import TITLES
from jaxnets.evaluation import result as results
from jaxnets.evaluation.result import Result
from jaxnets.evaluation.statistics import Interval
from jaxnets.experiment.run_directory import read_result
from jaxnets.experiment.run_files import FIELDS_ALLOWED_TO_DIFFER
from jaxnets.experiment.workdir import CONFIG
from studies.pages.folds import pool_folds
from studies.pages.markdown import NOT_RUN

HEADS = (
    "network",
    "data, split",
    "reported",
    "jaxnets: mean of the seeds [95 %]",
    "verdict",
    "speed",
    "runs",
)
"""Columns of the table that compare.py prints for run directories."""
COMPARABLE_HEADS = ("network", "data", "reported", "jaxnets [95 %]", "verdict", "runs")
"""Columns of the table in docs/results.md."""
CSV_HEADS = (
    *("entry", "name", "model", "data", "split", "image_size", "epochs", "reported_percent", "leaky"),
    *("leak_test", "tested_as", "mean_percent", "spread_percent", "low_percent", "high_percent", "seeds"),
    *("clean_percent", "verdict", "images_per_second", "hardware", "runs"),
)
COMPARABLE_SPLITS = ("official", "random", "published")
"""Splits with the same leakage as those of the reports."""
PRETRAINED_ON = "ImageNet"
"""What report B's backbones were pretrained on."""
NOT_COMPARABLE, NOT_REPORTED = "not comparable", "none"
OURS = ":best"
"""In the names of our own configs, which are listed although no report has a number for them."""
CONFIG_FIELDS = ("entry", "name", "split", "image_size", "epochs", "batch_size", "weights", "truncate_after")


class ResultsRow(TypedDict, total=False):
    """A row of the table; the keys in `CSV_HEADS` are also its columns in docs/tables/results.csv."""

    entry: str | None
    name: str
    model: str
    data: str
    split: str
    image_size: int | None
    epochs: float
    reported_percent: float | None
    leaky: str
    leak_test: float | None
    tested_as: str
    mean_percent: float
    spread_percent: float
    low_percent: float
    high_percent: float
    seeds: int
    clean_percent: float
    verdict: str
    images_per_second: float | None
    hardware: str
    runs: str
    result: Result
    """Result of the first run; missing if there is none."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one config with different seeds, by directory name."""

    entry: str | None
    runs: Mapping[str, Result]

    @property
    def first(self) -> Result:
        """A run, for the fields that all runs share."""
        return next(iter(self.runs.values()))

    @property
    def tested_as(self) -> str:
        """The test that is compared with the reported number: the report's own if we have it."""
        wanted = reported.tested_as(self.entry) if self.entry else "clean"
        return wanted if all(wanted in run["tests"] for run in self.runs.values()) else "clean"

    @property
    def config(self) -> tuple[Any, ...]:
        """The fields that all runs share, and the overrides that affect the result."""
        return (*(self.first.get(name) for name in CONFIG_FIELDS), *_overrides(self.first))

    def accuracies(self, test: str) -> list[float]:
        """Returns the accuracy of each run in percent; empty for regression."""
        found = [run["tests"].get(test, {}).get("accuracy") for run in self.runs.values()]
        return [100 * value for value in found if value is not None]

    def mean(self, test: str) -> float:
        """Returns the mean accuracy over seeds in percent."""
        return statistics.fmean(self.accuracies(test))

    def interval(self, test: str) -> Interval:
        """Returns the mean of the runs' intervals in percent; all seeds share the test images."""
        tests = [run["tests"][test] for run in self.runs.values() if test in run["tests"]]
        low, high = zip(*(entry["interval"] for entry in tests), strict=True)
        return 100 * statistics.fmean(low), 100 * statistics.fmean(high)

    def speed(self) -> tuple[float | None, str]:
        """Returns the median training speed on the most common hardware, and the hardware."""
        counts = collections.Counter(run["hardware"] for run in self.runs.values())
        hardware = counts.most_common(1)[0][0]
        speeds = [run["images_per_second"] for run in self.runs.values() if run["hardware"] == hardware]
        known = [speed for speed in speeds if speed is not None]
        return statistics.median(known) if known else None, hardware


def groups(folder: Path, *, all_runs: bool = False) -> list[Group]:
    """Returns the finished runs in a folder by reported entry, split and config, in that order.

    These are float32 runs of reported entries and of configs with `OURS` in the name; with `all_runs`, all
    runs. The folds of a cross-validation are one run.
    """
    directories = sorted(path.parent for path in folder.glob(f"*/{results.RESULT}"))
    found = {directory: read_result(directory) for directory in directories}
    finished = {directory: run for directory, run in found.items() if run is not None}
    grouped = group_runs(pool_folds(finished))
    return [
        group
        for group in grouped
        if all_runs
        or (group.entry and not format_precision(group.first))
        or (OURS in group.first["name"] and not _overrides(group.first))
    ]


def group_runs(directories: Mapping[Path, Result]) -> list[Group]:
    """Groups the results of run directories by reported entry, config and data; ours come last."""
    found: dict[tuple[Any, ...], dict[str, Result]] = {}
    names = collections.Counter(directory.name for directory in directories)
    for directory, run in directories.items():
        name = directory.name if names[directory.name] == 1 else str(directory)
        config = Group(run["entry"], {name: run}).config
        key = (*config, run["data"], run["split_sha256"], _config_json(directory))
        found.setdefault(key, {})[name] = run
    ordered = sorted(found.items(), key=lambda item: str(item[0]))
    grouped = [Group(next(iter(runs.values()))["entry"], runs) for _, runs in ordered]
    return sorted(grouped, key=lambda group: group.entry or "~")


def _config_json(directory: Path) -> str:
    """Returns the fields of a run's config that affect the result, except the seed, as JSON."""
    config = config_lib.used_fields(config_lib.from_json((directory / CONFIG).read_text()))
    for path in ("seed", *FIELDS_ALLOWED_TO_DIFFER):
        config_lib.set_field(config, path, config_lib.FIELDS[path].default)
    return config_lib.to_json(config)


def _overrides(run: Result) -> list[str]:
    """Returns the overrides that affect the result, except the seed."""
    ignored = ("seed", "data.name", *FIELDS_ALLOWED_TO_DIFFER)
    return sorted(o for o in run.get("overrides", ()) if o.partition("=")[0] not in ignored)


def format_precision(run: Result) -> str:
    """Returns ", bfloat16" for a run that computed in it, else ""."""
    return ", bfloat16" if "model.compute_dtype='bfloat16'" in run.get("overrides", ()) else ""


def verdict(group: Group) -> str:
    """Says if our result is within, above or below the reported number, or why it is not comparable."""
    if group.entry is None:
        is_ours = OURS in group.first["name"]
        return "not in the reports" if is_ours else "no reported number"
    percent = _reported_percent(group.entry)
    if percent is None or not group.accuracies("clean"):
        return f"{NOT_COMPARABLE}: the report prints no such number after training"
    reasons = _differences(group, group.entry)
    low, high = group.interval(group.tested_as)
    if reasons:
        text = f"{NOT_COMPARABLE}: {'; '.join(reasons)}"
    else:
        text = "below" if percent > high else "above" if percent < low else "within"
        if group.tested_as != "clean":
            conditions, clean = results.TESTED_ON[group.tested_as], group.mean("clean")
            text += f", tested as in the report ({conditions}); clean {clean:.2f} %"
    return "; ".join([text, *_contradiction(group.entry)])


def _reported_percent(entry: str) -> float | None:
    return (reported.entry(entry).get("result") or {}).get("accuracy_percent")


def _differences(group: Group, name: str) -> list[str]:
    """Returns the known differences from the report's experiment."""
    run, entry, reasons = group.first, reported.entry(name), []
    config = entry["config"]
    if run["split"] not in COMPARABLE_SPLITS:
        reasons.append(f"{run['split']} split, the report's is random")
    if entry["epochs"] not in (None, run["epochs"]):
        reasons.append(f"{run['epochs']:g} epochs, the report's {entry['epochs']}")
    if config.get("optimizer") is not None and _overrides(run):
        reasons.append(", ".join(_overrides(run)))
    if run.get("truncate_after"):
        reasons.append(f"truncated after {run['truncate_after']}")
    if config.get("pretrained"):
        reasons += _backbone_difference(run)
    wanted = reported.tested_as(name)
    if wanted != group.tested_as:
        reasons.append(f"the report tests {results.TESTED_ON[wanted]}")
    return reasons + _unknown_settings(name)


def _backbone_difference(run: Result) -> list[str]:
    """Returns what a run's backbone was pretrained on, if not on `PRETRAINED_ON`."""
    weights, origin = run.get("weights"), run.get("pretrained_on")
    if weights in (None, "random"):
        return ["random backbone, the report's is pretrained"]
    if origin == PRETRAINED_ON:
        return []
    origin = origin or f"unknown data ({Path(str(weights)).name})"
    return [f"backbone pretrained on {origin}, the report's on {PRETRAINED_ON}"]


def _unknown_settings(name: str) -> list[str]:
    config = reported.entry(name)["config"]
    unknown = all(config.get(field) is None for field in ("optimizer", "learning_rate"))
    return ["the report does not state its settings"] if unknown else []


def _contradiction(name: str) -> list[str]:
    """Returns a note with both accuracies if a report's text contradicts its log."""
    claims = reported.entry(name).get("claimed") or {}
    concluded = (claims.get("conclusions") or {}).get("test_accuracy_percent")
    claimed, logged = claims.get("accuracy_percent", concluded), _reported_percent(name)
    if claimed is None or logged is None or claimed in (logged, int(logged)):  # "98 %" for 98.66 %
        return []
    return [f"the report contradicts itself: its text says {claimed:g} %, its own log {logged:g} %"]


def rows(folder: Path) -> list[ResultsRow]:
    """Returns a row per group, and one per reported accuracy without a run."""
    found = groups(folder)
    without_runs = set(reported.names()) - {group.entry for group in found}
    missing = [_row_without_runs(name) for name in without_runs if _reported_percent(name) is not None]
    return sorted([*map(row_of, found), *missing], key=lambda row: row["entry"] or "~")


def _row_without_runs(name: str) -> ResultsRow:
    entry = reported.entry(name)
    return {
        "entry": name,
        "model": entry["model"],
        "data": entry["data"],
        "reported_percent": _reported_percent(name),
        "verdict": "; ".join([NOT_RUN, *_unknown_settings(name), *_contradiction(name)]),
    }


def row_of(group: Group) -> ResultsRow:
    """Returns the row of a group."""
    run, test = group.first, group.tested_as
    speed, hardware = group.speed()
    row: ResultsRow = {
        "entry": group.entry,
        "name": run["name"],
        "model": run["model"],
        "data": run["data"],
        "split": run["split"],
        "image_size": run["image_size"],
        "epochs": run["epochs"],
        "reported_percent": _reported_percent(group.entry) if group.entry else None,
        "leaky": _leaky(run),
        "leak_test": (run.get("leakage") or {}).get("test"),
        "tested_as": test,
        "seeds": len(group.runs),
        "verdict": verdict(group),
        "images_per_second": speed,
        "hardware": hardware,
        "runs": " ".join(group.runs),
        "result": run,
    }
    accuracies = group.accuracies(test)
    if accuracies:
        row["mean_percent"], row["clean_percent"] = group.mean(test), group.mean("clean")
        row["low_percent"], row["high_percent"] = group.interval(test)
    if len(accuracies) > 1:
        row["spread_percent"] = statistics.stdev(accuracies)
    return row


def _leaky(run: Result) -> str:
    """Returns "LEAKY", "clean", or "" if the leakage is unknown."""
    if results.is_leaky(run):
        return "LEAKY"
    return "" if (run.get("leakage") or {}).get("test") is None else "clean"


def markdown_row(row: ResultsRow) -> tuple[str, ...]:
    """Returns the cells of a row, by `HEADS`."""
    title, data = models.entry(row["model"]).title, TITLES[row["data"]]
    percent = row["reported_percent"]
    report = f"{percent:g} % (report {str(row['entry'])[0]})" if percent is not None else ""
    if "result" not in row:
        return title, data, report, "", row["verdict"], "", ""
    run = row["result"]
    pixels = f", {run['image_size']} px" if run["image_size"] else ""
    network = f"{results.format_network(run, title)}{pixels}, {run['epochs']:g} epochs"
    split = results.format_split_kind(run)
    rate = row["images_per_second"]
    speed = "not known" if rate is None else f"{rate:,.0f} a second{results.format_head(run)}"
    names = f"`{shorten_names(row['runs'].split())}`"
    cells = (network, f"{data}, {split}", report, _format_accuracy(row, run), row["verdict"])
    return *cells, f"{speed}, {row['hardware']}", names


def comparable_rows(rows: Sequence[ResultsRow]) -> list[tuple[str, ...]]:
    """Returns the runs that repeat a report's experiment, and our own configs, by `COMPARABLE_HEADS`."""
    found = []
    for row in rows:
        if "result" in row and "mean_percent" in row and not row["verdict"].startswith(NOT_COMPARABLE):
            network, data, reported_text, accuracy, verdict_text, _, runs = markdown_row(row)
            found.append((network, data, reported_text or NOT_REPORTED, accuracy, verdict_text, runs))
    return found


def _format_accuracy(row: ResultsRow, run: Result) -> str:
    if "mean_percent" not in row:
        return f"loss {run['tests']['clean']['loss']:.4g}"
    seeds = f"{row['seeds']} seeds ± {row['spread_percent']:.2f}" if "spread_percent" in row else "1 seed"
    return f"{row['mean_percent']:.2f} % [{row['low_percent']:.2f}, {row['high_percent']:.2f}], {seeds}"


def shorten_names(names: Sequence[str]) -> str:
    """Shortens lenet-s0, lenet-s1, lenet-s2 to lenet-s0..2; lists names that differ in more than the seed."""
    matches = [re.fullmatch(r"(.*-s)(\d+)", name) for name in names]
    stems = {match[1] for match in matches if match}
    if len(names) < 2 or not all(matches) or len(stems) != 1:
        return "`, `".join(names)
    seeds = sorted(int(match[2]) for match in matches if match)
    contiguous = seeds == list(range(seeds[0], seeds[-1] + 1))
    return stems.pop() + (f"{seeds[0]}..{seeds[-1]}" if contiguous else ",".join(map(str, seeds)))


def csv_row(row: ResultsRow) -> list[Any]:
    """Returns the cells of a row in docs/tables/results.csv, by `CSV_HEADS`."""
    return [row.get(head) for head in CSV_HEADS]
