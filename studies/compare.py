"""Writes the tables and pictures of README and docs/ from results/."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnets import reported
from jaxnets.errors import CheckFailedError, ConfigError
from jaxnets.evaluation import result as results
from jaxnets.experiment.run_directory import open_run, print_warnings
from jaxnets.io import atomic_write, csv_cell
from jaxnets.runtime.console import Reporter
from studies.pages import (
    bench_table,
    colour_table,
    curves,
    groupings_table,
    growth_page,
    leak_table,
    performance_page,
    results_table,
    splits_picture,
    stain_page,
)
from studies.pages.markdown import table

README, RESULTS, BENCH = Path("README.md"), Path("results"), "bench"
PERFORMANCE, LC25000 = Path("docs") / "performance.md", Path("docs") / "lc25000.md"
TABLES = tuple(Path("configs") / "sweeps" / f"{name}.py" for name in ("lung", "lung_resnet", "lung_transfer"))
"""Tables of runs on LC25000 whose missing runs are listed."""
CSV, CURVES, SPLITS, STAIN = "table.csv", "curves", "lc25000_splits.png", "lc25000_stain.png"
GROWTH = Path("performance") / "growth.png"
Draw = Callable[[Path, Mapping[str, Any]], None]
Pictures = dict[Path, tuple[dict[str, Any], Draw]]
"""The data of each picture and the function that draws it."""


def compare(
    readme: Path = README,
    folder: Path = RESULTS,
    *,
    performance: Path | None = None,
    lc25000: Path | None = None,
    tables: Sequence[Path] = (),
    check: bool = False,
) -> None:
    """Writes all tables and pictures that are out of date.

    Tables are inserted between marks such as `<!-- results -->` and `<!-- end of results -->`. Also writes
    results/table.csv and the learning curves, results/curves/ENTRY.png.

    Args:
      readme: The page with the tables of results, splits and benchmarks.
      folder: The results folder.
      performance: The page with further benchmarks; None to skip it.
      lc25000: The page about LC25000; None to skip it.
      tables: Tables of runs whose missing runs are listed below the splits.
      check: Writes nothing, and raises CheckFailedError if something is out of date.

    Raises:
      ConfigError: If a page has no marks or a file under results/ cannot be read.
    """
    if not readme.is_file():
        raise ConfigError(f"{readme} not found: run this in the repository, or pass --readme=PAGE")
    texts = _texts(readme, folder, performance, lc25000, tables)
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text() != text]
    pictures = _pictures(folder, lc25000, performance)
    stale_pictures = [path for path, (data, _) in pictures.items() if not curves.is_current(path, data)]
    if check and (stale or stale_pictures):
        names = ", ".join(str(path) for path in [*stale, *stale_pictures])
        raise CheckFailedError(f"out of date with {folder}/: {names}; run python scripts/compare.py")
    folder.mkdir(parents=True, exist_ok=True)
    for path in stale:
        atomic_write(path, texts[path])
    for path in stale_pictures:
        data, draw = pictures[path]
        draw(path, data)


def print_runs(directories: Sequence[Path], *, ignore_damage: bool = False) -> None:
    """Prints the results table of finished run directories.

    Raises ConfigError if a run is not finished, CheckpointError if a directory is damaged; with
    `ignore_damage` a wrong checksum is a warning.
    """
    found = {}
    for directory in directories:
        run = open_run(directory, ignore_damage=ignore_damage)
        print_warnings(run.warnings)
        if run.result is None:
            raise ConfigError(f"{directory} holds no finished run: it has no {results.RESULT}")
        found[directory] = run.result
    Reporter().print(_results_text(list(map(results_table.row_of, results_table.group_runs(found)))))


def _texts(
    readme: Path, folder: Path, performance: Path | None, lc25000: Path | None, tables: Sequence[Path]
) -> dict[Path, str]:
    """Returns the text of each page and of the CSV file."""
    rows, splits = results_table.rows(folder), _splits_text(folder, tables)
    bench = bench_table.tables(folder / BENCH)
    sections = {readme: {"results": _results_text(rows), "splits": splits, "bench": bench}}
    if performance is not None:
        newest = bench_table.newest_rows(folder / BENCH)
        machines = {name: [row for _, row in found.values()] for name, found in newest.items()}
        sections[performance] = performance_page.sections(machines)
    if lc25000 is not None:
        sections[lc25000] = {
            "splits": splits,
            "groupings": table(groupings_table.HEADS, groupings_table.rows(folder)),
            "colour": _table_or_empty(colour_table.HEADS, colour_table.rows(folder)),
            "stain": _table_or_empty(stain_page.HEADS, stain_page.rows(folder)),
        }
    return {page: _insert(page, made) for page, made in sections.items()} | {folder / CSV: _csv_text(rows)}


def _results_text(rows: Sequence[results_table.ResultsRow]) -> str:
    return _table_or_empty(results_table.HEADS, [results_table.markdown_row(row) for row in rows])


def _splits_text(folder: Path, tables: Sequence[Path]) -> str:
    """Returns the table of random and grouped splits, and below it the missing runs."""
    missing = [leak_table.missing(folder, path) for path in tables]
    return "\n\n".join(filter(None, (_table_or_empty(leak_table.HEADS, leak_table.rows(folder)), *missing)))


def _table_or_empty(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(heads, rows) if rows else ""


def _csv_text(rows: Sequence[results_table.ResultsRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(results_table.CSV_HEADS)
    writer.writerows(map(csv_cell, results_table.csv_row(row)) for row in rows)
    return text.getvalue()


def _insert(page: Path, sections: Mapping[str, str]) -> str:
    """Returns a page's text with each section between its marks."""
    text = page.read_text() if page.is_file() else ""
    for mark, section in sections.items():
        begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ConfigError(f"{page} lacks the lines {begin!r} and {end!r}, which enclose the table")
        text = f"{before}{begin}\n{section}\n{end}{after}"
    return text


def _pictures(folder: Path, lc25000: Path | None, performance: Path | None) -> Pictures:
    """Returns the pictures to draw: learning curves, and those of the two pages."""
    pictures = _curve_pictures(folder)
    if lc25000 is not None:
        splits, stain = splits_picture.drawn_data(folder), stain_page.drawn_data(folder)
        if splits["rows"]:
            pictures[lc25000.with_name(SPLITS)] = splits, splits_picture.draw
        if stain:
            pictures[lc25000.with_name(STAIN)] = stain, stain_page.draw
    if performance is not None:
        growth = growth_page.drawn_data(bench_table.newest_growth_rows(folder / BENCH))
        if growth["series"]:
            pictures[performance.parent / GROWTH] = growth, growth_page.draw
    return pictures


def _curve_pictures(folder: Path) -> Pictures:
    """Returns the pictures of entries that have a log and runs."""
    by_entry: dict[str, list[results_table.Group]] = {}
    for group in results_table.groups(folder):
        if group.entry and reported.entry(group.entry).get("log"):
            by_entry.setdefault(group.entry, []).append(group)
    pictures: Pictures = {}
    for entry, groups in by_entry.items():
        runs = [folder / name for group in groups for name in group.runs]
        path = folder / CURVES / f"{entry.replace('/', '-')}.png"
        pictures[path] = curves.drawn_data(entry, runs, configs=len(groups)), curves.draw
    return pictures
