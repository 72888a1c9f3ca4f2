"""README's tables of benchmarks, made from bench files."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnets.errors import ConfigError
from studies.pages.markdown import format_peaks, table

BenchRow = Mapping[str, Any]
"""See `benchmarks.schema.BenchRow`, as BenchFile."""
BenchFile = Mapping[str, Any]
HEADS = ("row", "ours", "ratio [range]", "tuned", "in JAX: ratio", "tuned", "GiB")
DATED = re.compile(r"-(\d{4}-\d{2}-\d{2})\.json$")
PERFORMANCE_PAGE_PREFIXES = ("ops/", "layers/", "profile/", "growth/")
"""Rows that docs/performance.md shows."""
SHOWN_VERSIONS = ("jax", "torch")
IN_JAX_ALONE = "in JAX"
"""`implementation` of rows measured without the C++ kernels."""
FAILED = "failed"
"""Key of the reason why a row could not be measured."""


def tables(folder: Path) -> str:
    """Returns a table per machine with the newest measurement of each row."""
    parts = []
    for machine, rows in newest_rows(folder).items():
        shown = {name: row for name, row in rows.items() if not _is_on_performance_page(row[1])}
        if shown:
            versions = ", ".join(_format_versions([content["versions"] for content, _ in shown.values()]))
            parts.append(
                f"{machine}; {versions}:\n\n{table(HEADS, [cells(row) for _, row in shown.values()])}"
            )
    return "\n\n".join(parts)


def newest_rows(folder: Path) -> dict[str, dict[str, tuple[BenchFile, BenchRow]]]:
    """Returns the newest measurement of each row and its file, by machine and row name."""
    found: dict[str, dict[str, tuple[BenchFile, BenchRow]]] = {}
    for content in _read_files(folder):
        for row in content["rows"]:
            if FAILED not in row:
                found.setdefault(content["machine"], {})[row["name"]] = content, row
    return found


def newest_growth_rows(folder: Path) -> list[BenchRow]:
    """Returns the newest rows of the machine on which the growth suite was measured last."""
    machines = [
        content["machine"]
        for content in _read_files(folder)
        if any(row["name"].startswith("growth/") for row in content["rows"])
    ]
    return [row for _, row in newest_rows(folder)[machines[-1]].values()] if machines else []


def _is_on_performance_page(row: BenchRow) -> bool:
    return row["name"].startswith(PERFORMANCE_PAGE_PREFIXES) or "mfu" in row


def _read_files(folder: Path) -> Iterator[BenchFile]:
    """Yields the dated bench files, oldest first."""
    dated = [path for path in folder.glob("*.json") if DATED.search(path.name)]
    for path in sorted(dated, key=lambda path: (DATED.findall(path.name), path.name)):
        try:
            content = json.loads(path.read_text())
            assert {"machine", "versions", "rows"} <= content.keys()
        except (ValueError, AssertionError, AttributeError) as error:
            raise ConfigError(f"{path} is not a bench file: remove it or measure again") from error
        yield content


def _format_versions(versions: Sequence[Mapping[str, str]]) -> Iterator[str]:
    for package in SHOWN_VERSIONS:
        found = sorted({each[package] for each in versions if package in each})
        if found:
            yield f"{package} {' and '.join(found)}"


def format_rate(per_second: float, unit: str) -> str:
    """Formats a rate; the rate of starts is shown as seconds per start."""
    if unit == "starts":
        return f"{1 / per_second:.1f} s"
    if unit == "operations":
        return f"{per_second / 1e9:,.0f} GFLOP/s"
    return f"{per_second:,.0f} {unit}/s" if per_second >= 10 else f"{per_second:.2g} {unit}/s"


def cells(row: BenchRow) -> tuple[str, ...]:
    """Returns the cells of a row, by `HEADS`."""

    def formatted(name: str) -> str:
        value = row.get(name)
        return "" if value is None else f"{value:.2f}"

    title, ours = row.get("title", row["name"]), format_rate(row["ours"], row.get("unit", "images"))
    ratio, tuned, peaks = formatted("ratio"), formatted("ratio_tuned"), format_peaks(row)
    if row["range"] is not None:
        low, high = row["range"]
        ratio += f" [{low:.2f}, {high:.2f}]"
    if row.get("implementation") == IN_JAX_ALONE:
        return title, ours, "", "", ratio, tuned, peaks
    return title, ours, ratio, tuned, formatted("ratio_in_jax"), formatted("ratio_tuned_in_jax"), peaks
