"""The tables of docs/performance.md, made of bench files: forms by shape, growth, cards."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
KERNELS = "C++ kernels"


NOT_MEASURED = "Not measured yet."


def sections(machines: Mapping[str, Rows]) -> dict[str, str]:
    """The text between each pair of marks, from the newest rows by machine; `NOT_MEASURED` without any."""
    makers = {"ops": _ops, "growth": _growth, "gpu": _gpu}
    return {
        mark: "\n\n".join(
            f"{machine}:\n\n{table}" for machine, table in _by_machine(make, machines)
        )
        or NOT_MEASURED
        for mark, make in makers.items()
    }


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _by_machine(make: Any, machines: Mapping[str, Rows]) -> Iterable[tuple[str, str]]:
    for machine, rows in machines.items():
        made = make(rows)
        if made:
            yield machine, made


def _ops(rows: Rows) -> str:
    found = [row for row in rows if row["name"].startswith("ops/")]
    heads = ("convolution, pass", "taken", "GFLOP/s", "other form", KERNELS)
    return table(heads, [_ops_row(row) for row in found]) if found else ""


def _ops_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    def told(speed: float | None) -> str:
        return "" if speed is None else f"{speed / 1e9:,.0f}"

    kernels = row["per_second"].get(KERNELS)
    middle = sorted(kernels)[len(kernels) // 2] if kernels else None
    better = " (the other wins here)" if row["ratio"] < 1 else ""
    name = row["name"].removeprefix("ops/")
    return name, row["chosen"] + better, told(row["ours"]), told(row["theirs"]), told(middle)


def _growth(rows: Rows) -> str:
    found = [row for row in rows if row["name"].startswith("growth/")]
    heads = (
        "network, pixels, batch",
        "processes x devices",
        "ms a step",
        "images/s",
        "memory, GiB",
    )
    return table(heads, [_growth_row(row) for row in found]) if found else ""


def _growth_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    point = row["point"]
    return (
        row["title"],
        f"{point['processes']} x {point['devices']}",
        f"{1e3 * row['seconds_a_step']:,.3g}",
        f"{row['ours']:,.0f}",
        f"{row['peak_memory']['ours'] / 2**30:.2f}",
    )


def _gpu(rows: Rows) -> str:
    found = [row for row in rows if "mfu" in row]
    heads = ("row", "ours", "ratio [range]", "share of a product's speed")
    return table(heads, [_gpu_row(row) for row in found]) if found else ""


def _gpu_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    ratio = ""
    if row["ratio"] is not None:
        low, high = row["range"]
        ratio = f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]"
    return row["title"], f"{row['ours']:,.0f} images/s", ratio, f"{row['mfu']:.0%}"
