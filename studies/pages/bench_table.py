"""The tables of docs/performance.md that compare with PyTorch, made from bench files."""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxnets import models, reported
from jaxnets.errors import ConfigError
from studies.pages.markdown import NOT_MEASURED, format_peaks, peak_memory, table

BenchRow = Mapping[str, Any]
"""See `benchmarks.schema.BenchRow`, as BenchFile."""
BenchFile = Mapping[str, Any]
HEADS = (
    *("workload", "jaxnets", "speedup over the fastest baseline [range]"),
    *("over eager PyTorch: default, same allocator", "without kernels", "GiB"),
)
CSV_HEADS = (
    *("machine", "jax", "torch", "row", "title", "dtype", "per_second", "unit", "baseline"),
    *("ratio", "ratio_low", "ratio_high", "ratio_eager", "ratio_eager_same_allocator"),
    *("ratio_without_kernels", "ratio_eager_without_kernels", "ratio_eager_same_allocator_without_kernels"),
    *("ratio_to_our_float32", "peak_bytes", "peak_bytes_baseline", "ratio_memory"),
)
BFLOAT16 = "bfloat16"
"""Mark of docs/performance.md whose rows have this dtype; it has our float32 instead of the kernels."""
BFLOAT16_HEADS = tuple("our float32: ratio" if head == "without kernels" else head for head in HEADS)
OTHER_NETWORKS = "other_networks"
"""Mark of docs/networks.md with the speeds of networks that no report trained."""
SECTIONS = {
    "training": "training step, ",
    "inference": "inference, ",
    BFLOAT16: "",
    OTHER_NETWORKS: "",
    "other": "",
}
"""Marks of pages, and how the titles of their rows begin."""
REPORT_A_MLP = "report A's MLP"
"""Begins the titles of rows without images, which are not among the training steps."""
DATED = re.compile(r"-(\d{4}-\d{2}-\d{2})\.json$")
PERFORMANCE_PAGE_PREFIXES = ("ops/", "layers/", "profile/", "growth/", "processes/")
"""Rows that have tables of their own."""
SHOWN_VERSIONS = ("jax", "torch")
IN_JAX_ALONE = "in JAX"
"""`implementation` of rows measured without the C++ kernels."""
NUMBERS = re.compile(r"(\d+)")
FAILED = "failed"
"""Key of the reason why a row could not be measured."""


def section(folder: Path, mark: str) -> str:
    """Returns the tables of a mark, one for each machine, with the newest measurements by name and size."""
    tables = []
    for machine in newest_rows(folder):
        rows = []
        for _, row in _compared_rows(folder, machine):
            found, prefix = _section(row)
            if found == mark:
                title, *others = cells(row)
                rows.append((title.removeprefix(prefix).removesuffix(f", {BFLOAT16}"), *others))
        if rows:
            rows.sort(key=lambda row: _natural_order(row[0]))
            tables.append(f"{machine}:\n\n{table(BFLOAT16_HEADS if mark == BFLOAT16 else HEADS, rows)}")
    return "\n\n".join(tables) or NOT_MEASURED


@functools.cache
def _reported_networks() -> frozenset[str]:
    return frozenset(reported.entry(name)["model"] for name in reported.names())


def _natural_order(text: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in NUMBERS.split(text)]


def csv_rows(folder: Path) -> list[tuple[Any, ...]]:
    """Returns the newest measurement of each row on each machine, by `CSV_HEADS`."""
    return [
        _csv_row(machine, *measured)
        for machine in newest_rows(folder)
        for measured in _compared_rows(folder, machine)
    ]


def _compared_rows(folder: Path, machine: str) -> list[tuple[BenchFile, BenchRow]]:
    rows = newest_rows(folder)[machine].values()
    return [(content, row) for content, row in rows if not _has_other_table(row)]


def _section(row: BenchRow) -> tuple[str, str]:
    """Returns the mark of a row's table, and the prefix that its title loses there."""
    title = row.get("title", row["name"])
    if row.get("dtype") == BFLOAT16:
        return BFLOAT16, ""
    network = row["name"].split("/")[1:2]
    if network and network[0] in models.REGISTRY and network[0] not in _reported_networks():
        return OTHER_NETWORKS, ""
    for mark, prefix in SECTIONS.items():
        if prefix and title.startswith(prefix) and not title.startswith(f"{prefix}{REPORT_A_MLP}"):
            return mark, prefix
    return "other", ""


def _csv_row(machine: str, content: BenchFile, row: BenchRow) -> tuple[Any, ...]:
    low, high = row["range"] or (None, None)
    ratios = (row.get("ratio"), low, high, row.get("ratio_eager"), row.get("ratio_eager_tuned"))
    in_jax = tuple(row.get(f"{name}_in_jax") for name in ("ratio", "ratio_eager", "ratio_eager_tuned"))
    if row.get("implementation") == IN_JAX_ALONE:
        ratios, in_jax = (None,) * 5, (ratios[0], *ratios[3:])
    versions = (content["versions"].get(package) for package in SHOWN_VERSIONS)
    names = (row["name"], row.get("title", row["name"]), row.get("dtype"))
    rate = (row["ours"], row.get("unit", "images"), row.get("baseline"))
    memory = (*peak_memory(row), row.get("ratio_memory"))
    return (machine, *versions, *names, *rate, *ratios, *in_jax, row.get("ratio_float32"), *memory)


def newest_rows(folder: Path) -> dict[str, dict[str, tuple[BenchFile, BenchRow]]]:
    """Returns the newest measurement of each row and its file, by machine and row name."""
    found: dict[str, dict[str, tuple[BenchFile, BenchRow]]] = {}
    for content in _read_files(folder):
        for row in content["rows"]:
            if FAILED not in row:
                found.setdefault(content["machine"], {})[row["name"]] = content, row
    return found


def rows_of_last_machine(folder: Path, prefix: str) -> list[BenchRow]:
    """Returns the newest rows of the machine on which rows with this prefix were measured last."""
    machines = [
        content["machine"]
        for content in _read_files(folder)
        if any(row["name"].startswith(f"{prefix}/") for row in content["rows"])
    ]
    return [row for _, row in newest_rows(folder)[machines[-1]].values()] if machines else []


def _has_other_table(row: BenchRow) -> bool:
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
    eager = ", ".join(filter(None, (formatted("ratio_eager"), formatted("ratio_eager_tuned"))))
    ratio, peaks = formatted("ratio"), format_peaks(row)
    if row["range"] is not None:
        low, high = row["range"]
        ratio = f"{row['baseline'].partition(',')[0]}: {ratio} [{low:.2f}, {high:.2f}]"
    if row.get("implementation") == IN_JAX_ALONE:
        return title, ours, "", "", ratio, peaks
    other = "ratio_float32" if row.get("dtype") == BFLOAT16 else "ratio_in_jax"
    return title, ours, ratio, eager, formatted(other), peaks
