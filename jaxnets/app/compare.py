"""README's tables, made of what stands under results/: ours beside the reports', ours beside PyTorch's."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxnets import models, published
from jaxnets.app import performance_page
from jaxnets.app.performance_page import table
from jaxnets.data.catalog import TITLES
from jaxnets.errors import CheckFailedError, ConfigError
from jaxnets.evaluation import result as results
from jaxnets.files import write_whole

README, RESULTS, BENCH = Path("README.md"), Path("results"), "bench"
PERFORMANCE = Path("docs") / "performance.md"
DATED = re.compile(r"-(\d{4}-\d{2}-\d{2})\.json$")
TOLD_ELSEWHERE = ("ops/", "growth/")
"""Rows that docs/performance.md shows."""
VERSIONS_TOLD = ("jax", "torch")


def compare(
    readme: Path = README,
    folder: Path = RESULTS,
    *,
    performance: Path | None = None,
    check: bool = False,
) -> None:
    """Puts the tables between the marks `<!-- results -->` and `<!-- bench -->` of a page.

    And those of `performance`, a page of its own, between its marks. With `check` nothing is written:
    CheckFailedError where a page shows anything else. Raises ConfigError where a page has no such marks
    or a file under results/ cannot be read.
    """
    tables = {"results": results_table(folder), "bench": bench_tables(folder / BENCH)}
    _fill(readme, tables, folder, check=check)
    if performance is not None:
        newest = _newest(folder / BENCH, elsewhere=True)
        machines = {name: [row for _, row in rows.values()] for name, rows in newest.items()}
        _fill(performance, performance_page.sections(machines), folder, check=check)


def _fill(page: Path, tables: Mapping[str, str], folder: Path, *, check: bool) -> None:
    if not page.is_file():
        raise ConfigError(f"no {page} here: run it in the repository, or give --readme=PAGE")
    shown = made = page.read_text()
    for mark, text in tables.items():
        made = _put(made, mark, text, page)
    if check and made != shown:
        raise CheckFailedError(
            f"{page} does not show what stands under {folder}/: run python scripts/compare.py"
        )
    if made != shown:
        write_whole(page, made)


def results_table(folder: Path) -> str:
    """A line a finished run of a published entry: what was trained on what, and ours beside theirs."""
    found = sorted(folder.glob(f"*/{results.RESULT}"))
    kept = {path.parent.name: results.read(path.parent) for path in found}
    heads = ("network", "data", "split", "test accuracy [95 %]", "published", "run")
    rows = [_result_row(name, one) for name, one in kept.items() if one and one["entry"]]
    return table(heads, rows) if rows else ""


def bench_tables(folder: Path) -> str:
    """A table a machine: of each row the newest measurement."""
    parts = []
    for machine, rows in _newest(folder).items():
        versions = next(iter(rows.values()))[0]["versions"]
        told = ", ".join(f"{name} {versions[name]}" for name in VERSIONS_TOLD if name in versions)
        heads = ("row", "ours", "ratio [range]", "tuned", "in JAX: ratio", "tuned")
        lines = [_bench_row(row) for _, row in rows.values()]
        parts.append(f"{machine}; {told}:\n\n{table(heads, lines)}")
    return "\n\n".join(parts)


def _result_row(name: str, result: Mapping[str, Any]) -> tuple[str, ...]:
    title, size = models.entry(result["model"]).title, result["image_size"]
    pixels = f", {size} px" if size else ""
    network = f"{title}{pixels}, {result['epochs']:g} epochs, seed {result['seed']}"
    if result["test_accuracy"] is None:
        ours, split = f"loss {result['tests']['clean']['loss']:.4g}", result["split"]
    else:
        low, high = result["test_interval"]
        ours = f"{100 * result['test_accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        split = results.told_split(result).partition(":")[0]
    return network, TITLES[result["data"]], split, ours, _published(result["entry"]), f"`{name}`"


def _published(entry: str | None) -> str:
    accuracy = (published.entry(entry).get("result") or {}) if entry else {}
    percent = accuracy.get("accuracy_percent")
    return "" if percent is None or entry is None else f"{percent} % (report {entry[0]})"


def _newest(
    folder: Path, *, elsewhere: bool = False
) -> dict[str, dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]]:
    """By machine and row name: the file that has the newest measurement, and that row.

    README's rows, or all where it is for `elsewhere`.
    """
    found: dict[str, dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for content in _bench_files(folder):
        rows = found.setdefault(content["machine"], {})
        for row in content["rows"]:
            if elsewhere or not (row["name"].startswith(TOLD_ELSEWHERE) or "mfu" in row):
                rows[row["name"]] = content, row
    return {machine: rows for machine, rows in found.items() if rows}


def _bench_files(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Dated bench files, the oldest first."""
    dated = [path for path in folder.glob("*.json") if DATED.search(path.name)]
    for path in sorted(dated, key=lambda path: (DATED.findall(path.name), path.name)):
        try:
            content = json.loads(path.read_text())
            assert {"machine", "versions", "rows"} <= content.keys()
        except (ValueError, AssertionError, AttributeError) as error:
            raise ConfigError(f"{path} is no bench file: remove it or measure again") from error
        yield content


def rate_in_words(per_second: float, unit: str) -> str:
    """A rate for a person; that of starts is told as how long one takes."""
    if unit == "starts":
        return f"{1 / per_second:.1f} s"
    if unit == "operations":
        return f"{per_second / 1e9:,.0f} GFLOP/s"
    return f"{per_second:,.0f} {unit}/s" if per_second >= 10 else f"{per_second:.2g} {unit}/s"


def _bench_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    def told(name: str) -> str:
        value = row.get(name)
        return "" if value is None else f"{value:.2f}"

    ours, ratio = rate_in_words(row["ours"], row.get("unit", "images")), told("ratio")
    if row["range"] is not None:
        low, high = row["range"]
        ratio += f" [{low:.2f}, {high:.2f}]"
    # Where there is nothing to choose, what is measured is in JAX; a pipeline has no kernels.
    pure = ("ratio_in_jax", "ratio_tuned_in_jax")
    return (row.get("title", row["name"]), ours, ratio, told("ratio_tuned"), *map(told, pure))


def _put(text: str, mark: str, table: str, page: Path) -> str:
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ConfigError(
            f"{page} has no lines {begin!r} and {end!r} for the table to stand between"
        )
    return f"{before}{begin}\n{table}\n{end}{after}"
