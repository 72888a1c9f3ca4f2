"""README's tables, made of what stands under results/: ours beside the reports', ours beside PyTorch's."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnets import reported
from jaxnets.errors import CheckFailedError, ConfigError
from jaxnets.evaluation import result as results
from jaxnets.experiment.run_directory import open_run, print_warnings
from jaxnets.io import atomic_write, csv_cell
from jaxnets.runtime.console import Reporter
from studies.pages import (
    colour_table,
    curves,
    groupings_table,
    growth_page,
    leak_table,
    performance_page,
    splits_picture,
    stain_page,
)
from studies.pages import results_table as table_of_results
from studies.pages.markdown import format_peaks, table

README, RESULTS, BENCH = Path("README.md"), Path("results"), "bench"
PERFORMANCE, LC25000 = Path("docs") / "performance.md", Path("docs") / "lc25000.md"
TABLES = tuple(Path("configs") / "sweeps" / f"{name}.py" for name in ("lung", "lung_resnet", "lung_transfer"))
"""Those of runs on LC25000 whose rows are named where they are not run."""
CSV, CURVES, SPLITS, STAIN = "table.csv", "curves", "lc25000_splits.png", "lc25000_stain.png"
GROWTH = Path("performance") / "growth.png"
Draw = Callable[[Path, Mapping[str, Any]], None]
DATED = re.compile(r"-(\d{4}-\d{2}-\d{2})\.json$")
REPORTED_ELSEWHERE = ("ops/", "layers/", "profile/", "growth/")
"""Rows that docs/performance.md shows."""
SHOWN_VERSIONS = ("jax", "torch")
IN_JAX_ALONE = "in JAX"
"""The lowering of rows that could have had the C++ kernels."""
FAILED = "failed"
"""What a row has, beside its name, that could not be measured: the reason."""


def compare(
    readme: Path = README,
    folder: Path = RESULTS,
    *,
    performance: Path | None = None,
    lc25000: Path | None = None,
    tables: Sequence[Path] = (),
    check: bool = False,
) -> None:
    """Puts the tables between the marks of a page: `<!-- results -->`, `<!-- splits -->`, `<!-- bench -->`.

    Those of `performance` and `lc25000`, pages of their own, stand between their marks. `tables` have rows
    that are runs: those without a result are named below the splits. Beside them go the table as
    results/table.csv, and a picture of the curves of each entry that has some, results/curves/ENTRY.png;
    beside `lc25000` lie those of the splits and of other colours, beside `performance` that of growth. With
    `check` nothing is written: CheckFailedError where any of them shows anything else. Raises ConfigError
    where a page has no such marks or a file under results/ cannot be read.
    """
    if not readme.is_file():
        raise ConfigError(f"no {readme} here: run it in the repository, or give --readme=PAGE")
    found = table_of_results.rows(folder)
    made = _put(readme.read_text(), "results", results_table(found), readme)
    made = _put(made, "splits", splits_table(folder, tables), readme)
    made = _put(made, "bench", bench_tables(folder / BENCH), readme)
    texts = {readme: made, folder / CSV: _csv_text(found)}
    if performance is not None:
        texts[performance] = _performance_text(performance, folder / BENCH)
    if lc25000 is not None:
        texts[lc25000] = _lc25000_text(lc25000, folder, tables)
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text() != text]
    pictures = _pictures(folder, lc25000, performance)
    faded = [path for path, (data, _) in pictures.items() if not curves.is_current(path, data)]
    if check and (stale or faded):
        message = ", ".join(str(path) for path in [*stale, *faded])
        raise CheckFailedError(
            f"{message}: out of date with what stands under {folder}/: run python scripts/compare.py"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path in stale:
        atomic_write(path, texts[path])
    for path in faded:
        data, draw = pictures[path]
        draw(path, data)


def print_runs(directories: Sequence[Path], *, ignore_damage: bool = False) -> None:
    """Prints the table of finished runs, wherever they lie: ours beside the reports', seeds together.

    Raises ConfigError where a directory holds no finished run, CheckpointError where one is damaged; with
    `ignore_damage` what differs from its checksum is a warning.
    """
    found = {}
    for directory in directories:
        run = open_run(directory, ignore_damage=ignore_damage)
        print_warnings(run.warnings)
        if run.result is None:
            raise ConfigError(f"{directory} holds no finished run: it has no {results.RESULT}")
        found[directory] = run.result
    Reporter().print(results_table(table_of_results.rows_of(table_of_results.grouped(found))))


def _performance_text(page: Path, folder: Path) -> str:
    newest = _newest(folder, elsewhere=True)
    machines = {name: [row for _, row in rows.values()] for name, rows in newest.items()}
    text = page.read_text() if page.is_file() else ""
    for mark, made in performance_page.sections(machines).items():
        text = _put(text, mark, made, page)
    return text


def results_table(found: Sequence[Mapping[str, Any]]) -> str:
    """One row per reported entry, split and config: the report's number, ours over seeds, a verdict."""
    return table(table_of_results.HEADS, table_of_results.as_markdown(found)) if found else ""


def splits_table(folder: Path, tables: Sequence[Path] = ()) -> str:
    """One row per config that ran under a random or a grouped split: both accuracies and the drop.

    Below it the rows of `tables` that are not run.
    """
    lines = leak_table.rows(folder)
    made = table(leak_table.HEADS, lines) if lines else ""
    missing = [leak_table.missing(folder, path) for path in tables]
    return "\n\n".join(part for part in (made, *missing) if part)


def _lc25000_text(page: Path, folder: Path, tables: Sequence[Path]) -> str:
    text = page.read_text() if page.is_file() else ""
    text = _put(text, "splits", splits_table(folder, tables), page)
    text = _put(text, "groupings", table(groupings_table.HEADS, groupings_table.rows(folder)), page)
    for mark, made in (("colour", colour_table), ("stain", stain_page)):
        lines = made.rows(folder)
        text = _put(text, mark, table(made.HEADS, lines) if lines else "", page)
    return text


def _csv_text(found: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table_of_results.CSV_HEADS)
    writer.writerows(map(csv_cell, row) for row in table_of_results.as_csv(found))
    return text.getvalue()


def _pictures(
    folder: Path, lc25000: Path | None, performance: Path | None
) -> dict[Path, tuple[dict[str, Any], Draw]]:
    """What is drawn, by its file, and by what.

    An entry's printed curve and our runs of it, where both are there; beside the page on LC25000 what its
    splits are worth and what other colours do; beside the page on speed how steps grow, on the machine
    measured last.
    """
    runs: dict[str, list[list[Path]]] = {}
    for group in table_of_results.groups(folder):
        if group.entry and reported.entry(group.entry).get("log"):
            runs.setdefault(group.entry, []).append([folder / name for name in group.runs])
    made: dict[Path, tuple[dict[str, Any], Draw]] = {
        folder / CURVES / f"{name.replace('/', '-')}.png": (
            curves.drawn_data(
                name,
                [folder for folders in by_config for folder in folders],
                configs=len(by_config),
            ),
            curves.draw,
        )
        for name, by_config in runs.items()
    }
    splits = splits_picture.drawn_data(folder)
    if lc25000 is not None and splits["rows"]:
        made[lc25000.with_name(SPLITS)] = splits, splits_picture.draw
    shifted = stain_page.drawn_data(folder)
    if lc25000 is not None and shifted:
        made[lc25000.with_name(STAIN)] = shifted, stain_page.draw
    growth = growth_page.drawn_data(_last_with_growth(folder / BENCH))
    if performance is not None and growth["series"]:
        made[performance.parent / GROWTH] = growth, growth_page.draw
    return made


def _last_with_growth(folder: Path) -> list[Mapping[str, Any]]:
    """The newest rows of the machine whose growth was measured last."""
    machines = [
        content["machine"]
        for content in _bench_files(folder)
        if any(row["name"].startswith("growth/") for row in content["rows"])
    ]
    newest = _newest(folder, elsewhere=True)[machines[-1]] if machines else {}
    return [row for _, row in newest.values()]


def bench_tables(folder: Path) -> str:
    """A table a machine: of each row the newest measurement."""
    parts = []
    for machine, rows in _newest(folder).items():
        message = ", ".join(_format_versions([content["versions"] for content, _ in rows.values()]))
        heads = ("row", "ours", "ratio [range]", "tuned", "in JAX: ratio", "tuned", "GiB")
        lines = [_bench_row(row) for _, row in rows.values()]
        parts.append(f"{machine}; {message}:\n\n{table(heads, lines)}")
    return "\n\n".join(parts)


def _format_versions(versions: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Of each package that computes the version, or those that rows were measured with."""
    for name in SHOWN_VERSIONS:
        found = sorted({there[name] for there in versions if name in there})
        if found:
            yield f"{name} {' and '.join(found)}"


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
            if FAILED in row:
                continue
            if elsewhere or not (row["name"].startswith(REPORTED_ELSEWHERE) or "mfu" in row):
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
            raise ConfigError(f"{path} is not a bench file: remove it or measure again") from error
        yield content


def format_rate(per_second: float, unit: str) -> str:
    """Formats a rate; the rate of starts is shown as seconds per start."""
    if unit == "starts":
        return f"{1 / per_second:.1f} s"
    if unit == "operations":
        return f"{per_second / 1e9:,.0f} GFLOP/s"
    return f"{per_second:,.0f} {unit}/s" if per_second >= 10 else f"{per_second:.2g} {unit}/s"


def _bench_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    def formatted(name: str) -> str:
        value = row.get(name)
        return "" if value is None else f"{value:.2f}"

    title, ours = (
        row.get("title", row["name"]),
        format_rate(row["ours"], row.get("unit", "images")),
    )
    ratio = formatted("ratio")
    if row["range"] is not None:
        low, high = row["range"]
        ratio += f" [{low:.2f}, {high:.2f}]"
    if row.get("implementation") == IN_JAX_ALONE:
        return title, ours, "", "", ratio, formatted("ratio_tuned"), format_peaks(row)
    pure = ("ratio_in_jax", "ratio_tuned_in_jax")
    return title, ours, ratio, formatted("ratio_tuned"), *map(formatted, pure), format_peaks(row)


def _put(text: str, mark: str, table: str, page: Path) -> str:
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ConfigError(f"{page} lacks the lines {begin!r} and {end!r}, which enclose the table")
    return f"{before}{begin}\n{table}\n{end}{after}"
