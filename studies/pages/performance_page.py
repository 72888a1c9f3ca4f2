"""The tables of docs/performance.md, made from bench files."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from studies.pages import growth_page
from studies.pages.markdown import format_peaks, milliseconds, table

Rows = Sequence[Mapping[str, Any]]
KERNELS, PRODUCT = "C++ kernels", "product"
"""Keys of a row's `per_second`."""
PARTS = ("products, forward", "products, backward", "pooling", "sums", "concatenation", "the rest")
"""Kinds of operations, the keys of a row's `parts`; convolutions count as products."""
NOT_MEASURED = "Not measured yet."


def sections(machines: Mapping[str, Rows]) -> dict[str, str]:
    """Returns the text of each section from the newest rows by machine; `NOT_MEASURED` without any."""
    makers = {"ops": _ops, "layers": _layers, "profile": _profile, "growth": growth_page.section, "gpu": _gpu}
    return {
        mark: "\n\n".join(f"{machine}:\n\n{table}" for machine, table in _by_machine(make, machines))
        or NOT_MEASURED
        for mark, make in makers.items()
    }


def _by_machine(make: Any, machines: Mapping[str, Rows]) -> Iterable[tuple[str, str]]:
    for machine, rows in machines.items():
        made = make(rows)
        if made:
            yield machine, made


def _ops(rows: Rows) -> str:
    found = [row for row in rows if row["name"].startswith("ops/")]
    heads = ("convolution, pass", "taken", "GFLOP/s", "other form", KERNELS, "a product so large")
    return table(heads, [_ops_row(row) for row in found]) if found else ""


def _ops_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    def gflops(speed: float | None) -> str:
        return "" if speed is None else f"{speed / 1e9:,.0f}"

    def median(form: str) -> float | None:
        speeds = row["per_second"].get(form)
        return statistics.median(speeds) if speeds else None

    better = " (the other wins here)" if row["range"][1] < 1 else ""
    name = row["name"].removeprefix("ops/")
    others = (gflops(median(form)) for form in (KERNELS, PRODUCT))
    return name, row["chosen"] + better, gflops(row["ours"]), gflops(row["theirs"]), *others


def _layers(rows: Rows) -> str:
    found = [row for row in rows if row["name"].startswith("layers/")]
    heads = ("layer, forward and gradient, ms", "in JAX alone", "JAX's own gradient", KERNELS)
    return table(heads, [_layer_row(row) for row in found]) if found else ""


def _layer_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    def duration(calls_per_second: float) -> str:
        return milliseconds(1 / calls_per_second)

    kernels = row["per_second"].get(KERNELS)
    kernels_text = duration(statistics.median(kernels)) if kernels else ""
    name = row["name"].removeprefix("layers/")
    return name, duration(row["ours"]), duration(row["theirs"]), kernels_text


def _profile(rows: Rows) -> str:
    found = [row for row in rows if row["name"].startswith("profile/")]
    heads = ("step", "ms", *PARTS, "products, GFLOP/s", "a large product", "at its speed, ms")
    return table(heads, [_profile_row(row) for row in found]) if found else ""


def _profile_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    parts = row["parts"]
    fractions = (f"{100 * parts[kind] / sum(parts.values()):.0f} %" for kind in PARTS)
    speed = row["operations"] / sum(parts[kind] for kind in PARTS[:2])
    return (
        f"{row['title']}, {row['implementation']}",
        milliseconds(row["seconds_a_step"]),
        *fractions,
        f"{speed / 1e9:,.0f}",
        f"{row['of_a_product'] / 1e9:,.0f}",
        milliseconds(row["operations"] / row["of_a_product"]),
    )


def _gpu(rows: Rows) -> str:
    found = [row for row in rows if "mfu" in row]
    heads = (
        "row",
        "ours",
        "ratio [range]",
        "share of a product's speed",
        "card's memory, GiB: ours / PyTorch's",
    )
    return table(heads, [_gpu_row(row) for row in found]) if found else ""


def _gpu_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    ratio = ""
    if row["ratio"] is not None:
        low, high = row["range"]
        ratio = f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]"
    speed, mfu = f"{row['ours']:,.0f} images/s", f"{row['mfu']:.0%}"
    return row["title"], speed, ratio, mfu, format_peaks(row)
