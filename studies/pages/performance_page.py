"""The tables of docs/performance.md that do not compare with PyTorch, made from bench files."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from studies.pages import growth_page
from studies.pages.markdown import NOT_MEASURED, csv_text, format_peaks, milliseconds, table

Rows = Sequence[Mapping[str, Any]]
KERNELS, PRODUCT = "C++ kernels", "product"
"""Keys of a row's `per_second`."""
PARTS = ("products, forward", "products, backward", "pooling", "sums", "concatenation", "the rest")
"""Kinds of operations, the keys of a row's `parts`; convolutions count as products."""
CSV_OPS_HEADS = (
    *("machine", "convolution", "pass", "jax_form", "jax_gflops", "other_jax_form_gflops"),
    *("kernels_gflops", "matrix_product_gflops", "other_form_is_faster"),
)
CSV_PROFILE_HEADS = (
    *("machine", "step", "implementation", "milliseconds", *(f"{part} seconds" for part in PARTS)),
    *("convolutions_gflops", "matrix_product_gflops", "milliseconds_at_matrix_product"),
)


SECTIONS = ("ops", "layers", "profile", "growth", "gpu")
"""Marks of the tables."""


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


def csv_files(machines: Mapping[str, Rows]) -> dict[str, str]:
    """Returns the CSV files of the tables that docs/performance.md only summarizes, by name."""
    tables = {
        "convolutions.csv": (CSV_OPS_HEADS, "ops/", _csv_ops_row),
        "profile.csv": (CSV_PROFILE_HEADS, "profile/", _csv_profile_row),
    }
    return {
        name: csv_text(
            heads, [(m, *make(row)) for m, rows in machines.items() for row in _named(rows, prefix)]
        )
        for name, (heads, prefix, make) in tables.items()
    }


def _named(rows: Rows, prefix: str) -> Rows:
    return [row for row in rows if row["name"].startswith(prefix)]


def _ops(rows: Rows) -> str:
    """Returns the medians over all convolutions of each pass."""
    by_pass: dict[str, list[tuple[Any, ...]]] = {}
    for row in _named(rows, "ops/"):
        _, direction, _, *speeds, _ = _csv_ops_row(row)
        by_pass.setdefault(direction, []).append(tuple(speeds))
    heads = ("pass", "convolutions", "JAX form in use", "other JAX form", "C++ kernels", "matrix product")
    lines = [
        (direction.replace("_", " "), str(len(speeds)), *map(_median_gflops, zip(*speeds, strict=True)))
        for direction, speeds in by_pass.items()
    ]
    return table(heads, lines) if lines else ""


def _median_gflops(speeds: Iterable[float | None]) -> str:
    known = [speed for speed in speeds if speed is not None]
    return f"{statistics.median(known):,.0f}" if known else ""


def _csv_ops_row(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns the cells after the machine, by `CSV_OPS_HEADS`."""

    def gflops(form: str) -> float | None:
        speeds = row["per_second"].get(form)
        return statistics.median(speeds) / 1e9 if speeds else None

    convolution, _, direction = row["name"].removeprefix("ops/").rpartition("/")
    speeds = (row["ours"] / 1e9, row["theirs"] / 1e9, gflops(KERNELS), gflops(PRODUCT))
    return convolution, direction, row["chosen"], *speeds, row["range"][1] < 1


def _layers(rows: Rows) -> str:
    found = _named(rows, "layers/")
    heads = ("layer", "JAX, our gradient, ms", "JAX, its own gradient, ms", f"{KERNELS}, ms")
    return table(heads, [_layer_row(row) for row in found]) if found else ""


def _layer_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    def duration(calls_per_second: float) -> str:
        return milliseconds(1 / calls_per_second)

    kernels = row["per_second"].get(KERNELS)
    kernels_text = duration(statistics.median(kernels)) if kernels else ""
    name = row["name"].removeprefix("layers/")
    return name, duration(row["ours"]), duration(row["theirs"]), kernels_text


def _profile(rows: Rows) -> str:
    """Returns the steps with the C++ kernels, or all steps if none was measured with them."""
    found = _named(rows, "profile/")
    with_kernels = [row for row in found if row["implementation"] == KERNELS]
    heads = (
        *("step", "ms", "convolutions and products", "pooling, sums, concatenation", "the rest"),
        "ms at the speed of a matrix product",
    )
    return table(heads, [_profile_row(row) for row in with_kernels or found]) if found else ""


def _profile_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    forward, backward, *moving, rest = (row["parts"][kind] for kind in PARTS)
    total = sum(row["parts"][kind] for kind in PARTS)
    fractions = (f"{100 * part / total:.0f} %" for part in (forward + backward, sum(moving), rest))
    implementation = "" if row["implementation"] == KERNELS else f", {row['implementation']}"
    duration, limit = (
        milliseconds(row["seconds_a_step"]),
        milliseconds(row["operations"] / row["of_a_product"]),
    )
    return f"{row['title']}{implementation}", duration, *fractions, limit


def _csv_profile_row(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns the cells after the machine, by `CSV_PROFILE_HEADS`."""
    parts = [row["parts"][kind] for kind in PARTS]
    speeds = (row["operations"] / sum(parts[:2]) / 1e9, row["of_a_product"] / 1e9)
    limit = 1e3 * row["operations"] / row["of_a_product"]
    return row["title"], row["implementation"], 1e3 * row["seconds_a_step"], *parts, *speeds, limit


def _gpu(rows: Rows) -> str:
    found = [row for row in rows if "mfu" in row]
    heads = (
        "workload",
        "jaxnets",
        "ratio [range]",
        "fraction of a matrix product's speed",
        "GPU memory, GiB: jaxnets / PyTorch",
    )
    return table(heads, [_gpu_row(row) for row in found]) if found else ""


def _gpu_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    ratio = ""
    if row["ratio"] is not None:
        low, high = row["range"]
        ratio = f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]"
    speed, mfu = f"{row['ours']:,.0f} images/s", f"{row['mfu']:.0%}"
    return row["title"], speed, ratio, mfu, format_peaks(row)
