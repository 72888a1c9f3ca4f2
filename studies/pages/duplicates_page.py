"""Tables and picture of docs/duplicates_benchmark.md, from results/bench/duplicates.json."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studies.pages import curves
from studies.pages.markdown import NOT_MEASURED, table

RESULTS = "duplicates.json"
OURS = {"jaxnets_originals": "jaxnets, originals", "jaxnets_groups": "jaxnets, groups"}
OUR_FINDER = "jaxnets"
REFERENCES = {
    "random split": "random split",
    "human": "human clusters",
    "originals": "our originals",
    "groups": "our groups",
    "copies": "known copies",
}
"""Splits for comparison that no finder made."""
COUNTED = {"human": "human clusters", "originals": "originals", "groups": "groups of ours"}
PAIRS = (("published", "copies"), ("harder", "copies"), ("lung", "human"))
"""Sets with a truth that is not ours, in the order of the columns."""
TITLES = {
    "published": "copies like LC25000",
    "harder": "harder copies",
    "lung": "LC25000, human clusters",
    "photographs": "photographs",
    "mnist": "MNIST",
    "tuning": "LC25000, lung_aca (tuning)",
}
CONTROLS = ("pairs across LC25000's classes", "pairs of photographs", "pairs of MNIST's digits")
"""Numbers of reported pairs that are wrong, or almost all wrong."""
SETTINGS = ("tuned", "default")
FAILED = "failed"
NO_RESULT = "no result"
"""The text of a cell whose finder failed or was stopped."""
GIB = 2**30
LEAST_TEST_FRACTION = 0.14
"""Of splits whose fraction of test images is not shown; the splits aim at 0.15."""


def read(folder: Path) -> dict[str, Any]:
    """Reads the results; empty if the benchmark was not run."""
    path = folder / RESULTS
    return json.loads(path.read_text()) if path.is_file() else {}


def sections(folder: Path) -> dict[str, Callable[[], str]]:
    """Returns the function that makes the text of each mark."""
    makers = {
        "duplicates_sets": _sets,
        "duplicates_better": _better,
        "duplicates_pairs": lambda content: _pairs(content, "tuned"),
        "duplicates_default": lambda content: _pairs(content, "default"),
        "duplicates_ours": _our_truths,
        "duplicates_groups": _groups,
        "duplicates_splits": _splits,
        "duplicates_controls": _controls,
        "duplicates_cost": _cost,
        "duplicates_settings": _settings,
        "duplicates_failed": _failed,
        "duplicates_failures": _failures,
    }

    def section(make: Callable[[dict[str, Any]], str]) -> Callable[[], str]:
        return lambda: make(content) if (content := read(folder)) else NOT_MEASURED

    return {mark: section(make) for mark, make in makers.items()}


def title(content: Mapping[str, Any], row: str) -> str:
    """Returns the name of a row; our rows are bold."""
    if row in OURS:
        return f"**{OURS[row]}**"
    return REFERENCES.get(row) or content["finders"][row]["title"]


def _setting(content: Mapping[str, Any], row: str) -> str:
    """Returns the setting of a row with thresholds chosen on one class, or of one without thresholds."""
    return next(setting for setting in SETTINGS if setting in content["thresholds"][row])


def _measured(
    content: Mapping[str, Any], row: str, image_set: str, truth: str, setting: str = ""
) -> Mapping[str, Any] | None:
    """Returns the measures of a row; None if its finder failed on this set."""
    entry = content["scores"][row][image_set][truth][setting or _setting(content, row)]
    return None if FAILED in entry else entry


def _run(content: Mapping[str, Any], row: str, what: str = "", setting: str = "default") -> Mapping[str, Any]:
    """Returns the run on LC25000 of a finder's default, or of its choice for pairs or groups."""
    name = OUR_FINDER if row in OURS else row
    used = (
        content["thresholds"][row][setting][what]["setting"] if what else content["finders"][name]["setting"]
    )
    return content["runs"][name][used]["lung"]


def _sets(content: Mapping[str, Any]) -> str:
    rows = []
    for name, entry in content["sets"].items():
        groups = entry["groups"]
        if "copies" in groups:
            unit = "digits" if name == "mnist" else "photographs"
            counts = [f"{groups['copies']:,} {unit}"]
        else:
            counts = [f"{groups[truth]:,} {unit}" for truth, unit in COUNTED.items()]
        rows.append((TITLES[name].split(", human")[0], f"{entry['images']:,}", ", ".join(counts)))
    used, known, seed = (content["photographs"][field] for field in ("used", "all", "seed"))
    part = f"\n\nThese results are of {used} of the {known} photographs, drawn at random with seed {seed}."
    part = "" if used == known else part
    return table(("set", "images", "contents"), rows) + part


def _ranking(content: Mapping[str, Any]) -> list[tuple[str, dict[str, float], bool]]:
    """Returns each measure by row, and whether larger is better.

    Pairs and groups are those of the better one of a finder's default and its chosen setting.
    """
    rows = content["scores"]

    def best(row: str, name: str, truth: str, kind: str, measure: str) -> float | None:
        entries = (_measured(content, row, name, truth, each) for each in content["thresholds"][row])
        return max((entry[kind][measure] for entry in entries if entry), default=None)

    def of_rows(name: str, truth: str, kind: str, measure: str) -> dict[str, float]:
        values = {row: best(row, name, truth, kind, measure) for row in rows}
        return {row: value for row, value in values.items() if value is not None}

    found: list[tuple[str, dict[str, float], bool]] = []
    for name, truth in PAIRS:
        for measure, kind, field in (
            ("F1 of pairs", "pairs", "f1"),
            ("adjusted Rand index", "groups", "adjusted_rand"),
            ("B-cubed F1", "groups", "b_cubed_f1"),
        ):
            found.append((f"{measure}, {TITLES[name]}", of_rows(name, truth, kind, field), True))
        splits = content["splits"].get(name, {})
        leaks = {
            row: entry["leakage"][truth]
            for row, entry in splits.items()
            if row in rows and "leakage" in entry
        }
        found += [(f"leakage of a split, {TITLES[name]}", leaks, False)]
    runs = {row: run for row in rows if (run := _run(content, row))["failed"] is None}
    for measure, field in (("processor time", "processor_seconds"), ("peak memory", "peak_memory")):
        found.append((f"{measure}, LC25000", {row: run[field] for row, run in runs.items()}, False))
    wrong = {row: _wrong_pairs(content, row) for row in rows}
    for place, name in enumerate(CONTROLS):
        counts: dict[str, float] = {}
        for row, numbers in wrong.items():
            if (count := numbers[place]) is not None:
                counts[row] = count
        found.append((name, counts, False))
    return found


def _better(content: Mapping[str, Any]) -> str:
    """Returns a row per measure in which others are better than one of our rows, or equal the better one."""
    lines: list[tuple[str, ...]] = []
    for name, values, is_larger_better in _ranking(content):
        sign = 1 if is_larger_better else -1
        ours = {row: values[row] for row in OURS if row in values}
        if not ours:
            continue
        others = sorted((row for row in values if row not in ours), key=lambda row: -sign * values[row])
        least, *_, most = sorted([*ours.values(), *ours.values()], key=lambda value: sign * value)
        named = [row for row in others if sign * values[row] > sign * least or values[row] == most]
        if named:
            shown = [f"{title(content, row)}: {_value(name, values[row])}" for row in named[:3]]
            more = [f"{len(named) - 3} more"] if len(named) > 3 else []
            own = {OUR_FINDER: most} if least == most else {OURS[row]: value for row, value in ours.items()}
            own_shown = "; ".join(f"{row}: {_value(name, value)}" for row, value in own.items())
            lines.append((name, "; ".join([*shown, *more]), own_shown))
    if not lines:
        return "No other finder is better in any of these measures."
    return table(("measure", "better, or as good", "our search"), lines)


def _value(measure: str, value: float) -> str:
    if "time" in measure:
        return f"{value:,.0f} s"
    if "memory" in measure:
        return f"{value / GIB:.2f} GiB"
    if measure in CONTROLS:
        return f"{value:,}"
    return f"{100 * value:.1f} %" if "leakage" in measure else f"{value:.3f}"


def _pairs(content: Mapping[str, Any], setting: str) -> str:
    """Returns precision / recall, F1 with its interval, and average precision of pairs by set."""
    rows = []
    for row in content["scores"]:
        used = _setting(content, row) if setting == "tuned" else setting
        if used in content["thresholds"][row]:
            cells = (_pairs_cell(content, row, name, truth, used) for name, truth in PAIRS)
            rows.append((title(content, row), *cells))
    return table(("finder", *(TITLES[name] for name, _ in PAIRS)), rows)


def _pairs_cell(content: Mapping[str, Any], row: str, name: str, truth: str, setting: str) -> str:
    entry = _measured(content, row, name, truth, setting)
    if entry is None:
        return NO_RESULT
    pairs, (low, high) = entry["pairs"], entry["intervals"]["f1"]
    rates = f"{_percent(pairs['precision'])} / {_percent(pairs['recall'])}"
    precision = entry.get("average_precision")
    ranked = "" if precision is None else f"; {precision:.3f}"
    return f"{rates}; {pairs['f1']:.3f} [{low:.3f}, {high:.3f}]{ranked}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _our_truths(content: Mapping[str, Any]) -> str:
    heads = ("finder", "our originals: precision / recall", "our groups: precision / recall")
    heads += (
        "found of the pairs in one human cluster and two of our originals",
        "in one of our originals and two human clusters",
        "in one of our groups and two human clusters",
    )
    rows = []
    for row, by_set in content["scores"].items():
        setting, cells = _setting(content, row), [title(content, row)]
        for truth in ("originals", "groups"):
            entry = _measured(content, row, "lung", truth)
            pairs = entry["pairs"] if entry else {}
            rates = [_percent(pairs[name]) for name in ("precision", "recall")] if pairs else [NO_RESULT]
            cells.append(" / ".join(rates))
        disputed = by_set["lung"]["disputed"][setting]
        if FAILED in disputed:
            cells += [NO_RESULT] * 3
        else:
            cells += [f"{found:,} of {count:,}" for found, count in disputed.values()]
        rows.append(cells)
    return table(heads, rows)


def _groups(content: Mapping[str, Any]) -> str:
    """Returns the Rand index, B-cubed precision / recall, number and largest of the groups by set."""
    rows = []
    for row in content["scores"]:
        cells = [title(content, row)]
        for name, truth in PAIRS:
            entry = _measured(content, row, name, truth)
            if entry is None:
                cells.append(NO_RESULT)
                continue
            groups = entry["groups"]
            b_cubed = f"{_percent(groups['b_cubed_precision'])} / {_percent(groups['b_cubed_recall'])}"
            sizes = f"{groups['groups']:,}, {groups['largest']:,}"
            cells.append(f"{groups['adjusted_rand']:.3f}; {b_cubed}; {sizes}")
        rows.append(cells)
    return table(("finder", *(TITLES[name] for name, _ in PAIRS)), rows)


def _splits(content: Mapping[str, Any]) -> str:
    columns = (("published", "copies"), ("harder", "copies"), ("lung", "human"), ("lung", "groups"))
    heads = ["split by", *(TITLES[name] for name, _ in PAIRS), "LC25000, our groups"]
    heads += ["accuracy on LC25000 ± standard deviation"]
    splits = content["splits"]
    rows = []
    names = [row for row in REFERENCES if any(row in entries for entries in splits.values())]
    names += list(content["scores"])
    for row in names:
        cells = [title(content, row)]
        for name, truth in columns:
            cells.append(_leak(splits[name].get(row), truth))
        entry = splits["lung"].get(row, {})
        cells.append(_accuracy(entry) if "accuracy" in entry else "")
        rows.append(cells)
    return table(heads, rows)


def _accuracy(entry: Mapping[str, Any]) -> str:
    """Returns accuracy and standard deviation, and the fraction of test images if groups are too large."""
    text = f"{_percent(entry['accuracy'])} ± {_percent(entry['accuracy_deviation'])}"
    too_few = entry["test_fraction"] < LEAST_TEST_FRACTION
    return f"{text} ({100 * entry['test_fraction']:.0f} % tested)" if too_few else text


def _leak(entry: Mapping[str, Any] | None, truth: str) -> str:
    if entry is None:
        return ""
    if FAILED in entry:
        return NO_RESULT
    return _percent(entry["leakage"][truth]) if "leakage" in entry else "no split"


def _controls(content: Mapping[str, Any]) -> str:
    rows = []
    for row in content["scores"]:
        counts = _wrong_pairs(content, row)
        cells = (NO_RESULT if count is None else f"{count:,}" for count in counts)
        rows.append((title(content, row), *cells))
    return table(("finder", *CONTROLS), rows)


def _wrong_pairs(content: Mapping[str, Any], row: str) -> list[int | None]:
    """Returns the numbers of pairs of a row in the order of CONTROLS; None where its finder failed."""
    across = content["scores"][row]["lung"]["across_classes"][_setting(content, row)]
    entries = (_measured(content, row, name, "copies") for name in ("photographs", "mnist"))
    reported = (None if entry is None else entry["pairs"]["reported"] for entry in entries)
    return [None if isinstance(across, dict) else across, *reported]


def _cost(content: Mapping[str, Any]) -> str:
    heads = ("finder", "version", "what it compares", "processor time, s", "peak memory, GiB")
    rows = []
    for name, finder in content["finders"].items():
        run = _run(content, _row_of(name))
        cells = [_finder_title(name, finder), run["version"], finder["about"]]
        if run["failed"] is not None:
            cells += [NO_RESULT, NO_RESULT]
        else:
            cells += [f"{run['processor_seconds']:,.0f}", f"{run['peak_memory'] / GIB:.2f}"]
        rows.append(cells)
    return table(heads, rows)


def _settings(content: Mapping[str, Any]) -> str:
    rows = []
    for name, finder in content["finders"].items():
        row, choices = _row_of(name), content["thresholds"][_row_of(name)]
        run = _run(content, row)
        cells = [_choice(finder, choices["default"]["pairs"]) if "default" in choices else "none"]
        for used in ("pairs", "groups"):
            if "tuned" not in choices:
                cells.append("")
                continue
            shown, chosen = _choice(finder, choices["tuned"][used]), _run(content, row, used, "tuned")
            differs = chosen is not run and chosen["failed"] is None
            cells.append(f"{shown}, {chosen['processor_seconds']:,.0f} s" if differs else shown)
        if any(cells):
            rows.append([_finder_title(name, finder), *cells])
    return table(("finder", "default", "chosen for pairs", "chosen for groups"), rows)


def _row_of(name: str) -> str:
    """Returns the row of a finder, of ours the first."""
    return next(iter(OURS)) if name == OUR_FINDER else name


def _finder_title(name: str, finder: Mapping[str, Any]) -> str:
    return f"**{finder['title']}**" if name == OUR_FINDER else finder["title"]


def _choice(finder: Mapping[str, Any], choice: Mapping[str, Any]) -> str:
    """Returns the setting of a finder that has several, and the threshold of its scores."""
    setting = choice["setting"] if finder["settings"] else ""
    threshold = choice["threshold"]
    return "; ".join(filter(None, (setting, "" if threshold is None else f"{abs(threshold):.3g}")))


def _failed(content: Mapping[str, Any]) -> str:
    lines = []
    for name, by_setting in content["runs"].items():
        reasons: dict[str, list[str]] = {}
        for setting, by_set in by_setting.items():
            for image_set, run in by_set.items():
                if run["failed"] is not None:
                    where = TITLES[image_set] + (
                        f" ({setting})" if content["finders"][name]["settings"] else ""
                    )
                    reasons.setdefault(run["failed"], []).append(where)
        finder = content["finders"][name]
        for reason, places in reasons.items():
            where = "all sets" if len(places) > len(PAIRS) + 2 else ", ".join(places)
            lines.append(f"- {finder['title']}, {where}: `{reason}`")
    return "\n".join(lines) if lines else "All finders finished."


def _failures(content: Mapping[str, Any]) -> str:
    counts = {name.replace("published", TITLES["published"]): n for name, n in content["failures"].items()}
    return table(("errors of our search", "number"), [(name, f"{count:,}") for name, count in counts.items()])


def drawn_data(folder: Path) -> dict[str, Any]:
    """Returns the curves and points (recall, precision) by set and title; empty without results."""
    content = read(folder)
    if not content:
        return {}
    panels: dict[str, dict[str, Any]] = {}
    for name, truth in PAIRS:
        lines = panels.setdefault(TITLES[name], {})
        for row in content["scores"]:
            entry = _measured(content, row, name, truth)
            if entry is not None:
                pairs = entry["pairs"]
                lines[title(content, row).strip("*")] = {
                    "curve": entry.get("curve", []),
                    "point": [pairs["recall"], pairs["precision"]] if pairs["reported"] else None,
                    "ours": row in OURS,
                }
    return {"panels": panels}


def draw(path: Path, data: Mapping[str, Any]) -> None:
    """Draws one panel per set; raises ConfigError if matplotlib is not installed."""
    figure = curves.new_figure((11.0, 4.6))
    panels: Sequence[Any] = figure.subplots(1, len(data["panels"]), sharey=True)
    for axes, (name, lines) in zip(panels, data["panels"].items(), strict=True):
        for number, (label, line) in enumerate(lines.items()):
            style = {"color": "black"} if line["ours"] else {"color": f"C{number % 10}"}
            dashes = "-" if number < 10 else "--"
            if line["curve"]:
                axes.plot(*zip(*line["curve"], strict=True), dashes, linewidth=1.2, **style)
            marker = "*" if line["ours"] else "os^DvPX"[number % 7]  # with ten colours: all differ
            point = line["point"] or (None, None)
            size = 13 if line["ours"] else 5
            hollow = {"fillstyle": "none"} if label == OURS["jaxnets_groups"] else {}
            axes.plot(*([value] for value in point), marker, markersize=size, label=label, **style, **hollow)
        axes.set(title=name, xlabel="recall", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("precision")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    curves.save(path, figure, data)
