"""The tables of docs/performance.md, made of bench files: forms by shape, growth, cards."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
KERNELS, PRODUCT = "C++ kernels", "product"
"""Forms by name, in a row's `per_second`."""
PARTS = (
    "products, forward",
    "products, backward",
    "pooling",
    "sums",
    "concatenation",
    "the rest",
)
"""What a training step's time goes to, in a profile's `parts`: a convolution is a product here."""
GROWTH_PICTURE = "![step time and memory over batch and image size](performance/growth.png)"
NOT_MEASURED = "Not measured yet."


def sections(machines: Mapping[str, Rows]) -> dict[str, str]:
    """The text between each pair of marks, from the newest rows by machine; `NOT_MEASURED` without any."""
    makers = {"ops": _ops, "layers": _layers, "profile": _profile, "growth": _growth, "gpu": _gpu}
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


def milliseconds(seconds: float) -> str:
    """Three digits, without an exponent."""
    return f"{1e3 * seconds:,.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}"


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
    def told(speed: float | None) -> str:
        return "" if speed is None else f"{speed / 1e9:,.0f}"

    def middle(form: str) -> float | None:
        speeds = row["per_second"].get(form)
        return statistics.median(speeds) if speeds else None

    better = " (the other wins here)" if row["range"][1] < 1 else ""
    name = row["name"].removeprefix("ops/")
    beside = (told(middle(form)) for form in (KERNELS, PRODUCT))
    return name, row["chosen"] + better, told(row["ours"]), told(row["theirs"]), *beside


def _layers(rows: Rows) -> str:
    found = [row for row in rows if row["name"].startswith("layers/")]
    heads = ("layer, forward and gradient, ms", "in JAX alone", "JAX's own gradient", KERNELS)
    return table(heads, [_layer_row(row) for row in found]) if found else ""


def _layer_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    def told(calls_per_second: float) -> str:
        return milliseconds(1 / calls_per_second)

    kernels = row["per_second"].get(KERNELS)
    beside = told(statistics.median(kernels)) if kernels else ""
    name = row["name"].removeprefix("layers/")
    return name, told(row["ours"]), told(row["theirs"]), beside


def _growth(rows: Rows) -> str:
    found = [row for row in rows if row["name"].startswith("growth/")]
    heads = (
        "network, pixels, batch",
        "processes x devices",
        "ms a step",
        "images/s",
        "memory, GiB",
    )
    if not found:
        return ""
    lines = [_growth_row(row) for row in found]
    return f"{table(heads, lines)}\n\n{GROWTH_PICTURE}\n\n{_growth_in_words(found)}"


def _growth_in_words(rows: Rows) -> str:
    """A sentence a network and what grows, and one each of devices and of processes."""
    alone = [row for row in rows if _is_alone(row)]
    told = []
    for network in sorted({row["point"]["network"] for row in alone}):
        of_network = [row for row in alone if row["point"]["network"] == network]
        for what, fixed in (("batch_size", "image_size"), ("image_size", "batch_size")):
            series = _longest_series(of_network, what, fixed)
            if len(series) > 1:
                told.append(_grows(network, what, series[0], series[-1]))
    by_shape = {_shape(row): row for row in alone}
    for row in rows:
        one = by_shape.get(_shape(row))
        if one is not None and not _is_alone(row):
            spread = "{processes} x {devices} processes x devices".format(**row["point"])
            share = row["ours"] / one["ours"]
            told.append(f"{spread} on the same cores give {share:.2f} of the images/s of one.")
    return "\n".join(f"- {sentence}" for sentence in told)


def _is_alone(row: Mapping[str, Any]) -> bool:
    return row["point"]["processes"] * row["point"]["devices"] == 1


def _shape(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row["point"][name] for name in ("network", "image_size", "batch_size"))


def _longest_series(rows: Rows, what: str, fixed: str) -> Rows:
    """The most rows that differ in one thing alone, by its size."""
    by_fixed: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_fixed.setdefault(row["point"][fixed], []).append(row)
    longest = max(by_fixed.values(), key=len)
    return sorted(longest, key=lambda row: row["point"][what])


def _grows(network: str, what: str, least: Mapping[str, Any], most: Mapping[str, Any]) -> str:
    first, last = least["point"][what], most["point"][what]
    more = last / first if what == "batch_size" else (last / first) ** 2
    longer = most["seconds_a_step"] / least["seconds_a_step"]
    memory = [row["peak_memory"]["ours"] / 2**30 for row in (least, most)]
    grown = "a batch of {} to {}" if what == "batch_size" else "{} to {} px a side"
    return (
        f"{network}: from {grown.format(first, last)}, {more:,.0f} times the pixels, a step takes "
        f"{longer:.1f} times as long and memory goes from {memory[0]:.2f} to {memory[1]:.2f} GiB."
    )


def _growth_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    point = row["point"]
    return (
        f"{row['title']}, {row['lowering']}",
        f"{point['processes']} x {point['devices']}",
        milliseconds(row["seconds_a_step"]),
        f"{row['ours']:,.0f}",
        f"{row['peak_memory']['ours'] / 2**30:.2f}",
    )


def _profile(rows: Rows) -> str:
    found = [row for row in rows if row["name"].startswith("profile/")]
    heads = (
        "training step",
        "ms",
        *PARTS,
        "products, GFLOP/s",
        "a large product",
        "at its speed, ms",
    )
    return table(heads, [_profile_row(row) for row in found]) if found else ""


def _profile_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    parts = row["parts"]
    shares = (f"{100 * parts[kind] / sum(parts.values()):.0f} %" for kind in PARTS)
    speed = row["operations"] / sum(parts[kind] for kind in PARTS[:2])
    return (
        f"{row['title']}, {row['lowering']}",
        milliseconds(row["seconds_a_step"]),
        *shares,
        f"{speed / 1e9:,.0f}",
        f"{row['of_a_product'] / 1e9:,.0f}",
        milliseconds(row["operations"] / row["of_a_product"]),
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
