"""Scaling of step time and memory: table, summary and picture of docs/performance.md."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnets import models
from studies.pages import curves
from studies.pages.markdown import milliseconds, table

Rows = Sequence[Mapping[str, Any]]
SERIES = (("batch_size", "image_size", "batch"), ("image_size", "batch_size", "pixels a side"))
"""The varied field of a point, the fixed one, and the axis label."""
GIB = 2**30
NARROW_NETWORK = "resnet50"
"""The network that is measured with fewer channels than the original."""


def section(rows: Rows) -> str:
    """Returns the table and its summary; "" if growth was not measured."""
    found = _growth_rows(rows)
    heads = (
        "network, pixels, batch",
        "processes x devices",
        "ms per step",
        "images/s",
        "memory per process, GiB",
    )
    return f"{table(heads, [_line(row) for row in found])}\n\n{_summary(found)}" if found else ""


def drawn_data(rows: Rows) -> dict[str, Any]:
    """Returns the series by varied field and network, and images/s by processes x devices.

    A point is (batch size or image size, ms per step, GiB).
    """
    found = _growth_rows(rows)
    alone = [row for row in found if _is_single_device(row)]
    series = {
        what: {
            network: [
                [row["point"][what], 1e3 * row["seconds_a_step"], _memory(row)]
                for row in _longest_series(_of_network(alone, network), what, fixed)
            ]
            for network in _networks(alone)
        }
        for what, fixed, _ in SERIES
        if alone
    }
    shapes = {_shape(row) for row in found if not _is_single_device(row)}
    spreads = [[_topology(row), row["ours"]] for row in found if _shape(row) in shapes]
    return {"series": series, "spreads": spreads}


def draw(path: Path, data: Mapping[str, Any]) -> None:
    """Draws the picture; raises ConfigError if matplotlib is not installed."""
    figure = curves.new_figure((9.6, 5.6))
    axes = figure.subplot_mosaic([["time 0", "time 1", "spreads"], ["memory 0", "memory 1", "spreads"]])
    for column, (what, _, label) in enumerate(SERIES):
        for network, points in data["series"][what].items():
            places, times, memory = zip(*points, strict=True)
            axes[f"time {column}"].plot(places, times, "o-", label=_title(network))
            axes[f"memory {column}"].plot(places, memory, "o-")
        time, peak = axes[f"time {column}"], axes[f"memory {column}"]
        for one in (time, peak):
            one.set_xscale("log", base=2)
            one.xaxis.set_major_formatter("{x:g}")
        time.set_yscale("log")
        time.yaxis.set_major_formatter("{x:g}")
        time.set(ylabel="ms per step")
        peak.set(ylabel="peak memory, GiB", xlabel=label)
    spreads = axes["spreads"]
    spreads.bar([name for name, _ in data["spreads"]], [rate for _, rate in data["spreads"]])
    spreads.set(ylabel="images/s", xlabel="processes x devices\non the same cores")
    for one in axes.values():
        one.grid(alpha=0.3)
    handles, labels = axes["time 0"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    curves.save(path, figure, data)


def _growth_rows(rows: Rows) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["name"].startswith("growth/")]


def _summary(rows: Rows) -> str:
    """Returns a sentence per combination of processes and devices."""
    by_shape = {_shape(row): row for row in rows if _is_single_device(row)}
    sentences = []
    for row in rows:
        one = by_shape.get(_shape(row))
        if one is not None and not _is_single_device(row):
            ratio = row["ours"] / one["ours"]
            sentences.append(
                f"{_title(row['point']['network'])}: with {_topology(row)} processes x devices on the same "
                f"cores, images/s are {ratio:.2f} times those of one device."
            )
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _networks(rows: Rows) -> list[str]:
    return sorted({row["point"]["network"] for row in rows})


def _of_network(rows: Rows, network: str) -> Rows:
    return [row for row in rows if row["point"]["network"] == network]


def _title(network: str) -> str:
    title = models.entry(network).title
    return f"{title}, narrow" if network == NARROW_NETWORK else title


def _topology(row: Mapping[str, Any]) -> str:
    return "{processes} x {devices}".format(**row["point"])


def _memory(row: Mapping[str, Any]) -> float:
    """Returns the peak memory in GiB; NaN if unknown."""
    peak = row["peak_memory"]["ours"]
    return math.nan if peak is None else peak / GIB


def _is_single_device(row: Mapping[str, Any]) -> bool:
    return row["point"]["processes"] * row["point"]["devices"] == 1


def _shape(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row["point"][name] for name in ("network", "image_size", "batch_size"))


def _longest_series(rows: Rows, what: str, fixed: str) -> Rows:
    """Returns the longest series of rows that differ in the varied field only, ordered by it."""
    by_fixed: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_fixed.setdefault(row["point"][fixed], []).append(row)
    longest = max(by_fixed.values(), key=len)
    return sorted(longest, key=lambda row: row["point"][what])


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        "{}, {image_size} px, batch {batch_size}, {implementation}".format(
            _title(row["point"]["network"]), **row["point"], implementation=row["implementation"]
        ),
        _topology(row),
        milliseconds(row["seconds_a_step"]),
        f"{row['ours']:,.0f}",
        f"{_memory(row):.2f}",
    )
