"""Writes the tables and pictures of README and docs/, and docs/tables/*.csv, from results/."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnets import reported
from jaxnets.errors import CheckFailedError, ConfigError
from jaxnets.evaluation import result as results
from jaxnets.experiment.run_directory import open_run
from jaxnets.io import atomic_write
from jaxnets.runtime import console
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
from studies.pages.markdown import csv_text, table, table_or_empty

RESULTS, BENCH = Path("results"), "bench"
DOCS = Path("docs")
PAGES = {
    "readme": Path("README.md"),
    "results": DOCS / "results.md",
    "performance": DOCS / "performance.md",
    "lc25000": DOCS / "lc25000.md",
}
"""The pages with generated tables."""
TABLES = DOCS / "tables"
SWEEPS = tuple(Path("configs") / "sweeps" / f"{name}.py" for name in ("lung", "lung_resnet", "lung_transfer"))
"""Lists of runs on LC25000 whose missing runs are listed."""
CURVES, SPLITS, STAIN = "curves", "lc25000_splits.png", "lc25000_stain.png"
STAIN_LINK = "[tables/stain_shift.csv](tables/stain_shift.csv) has every run, shift and strength."
GROWTH = Path("performance") / "growth.png"
Draw = Callable[[Path, Mapping[str, Any]], None]
Pictures = dict[Path, tuple[dict[str, Any], Draw]]
"""The data of each picture and the function that draws it."""


def compare(
    pages: Mapping[str, Path] = PAGES,
    folder: Path = RESULTS,
    *,
    tables: Path = TABLES,
    sweeps: Sequence[Path] = (),
    check: bool = False,
) -> None:
    """Writes all tables and pictures that are out of date.

    Tables are inserted between marks such as `<!-- results -->` and `<!-- end of results -->`. Also writes
    the CSV files of the long tables and the learning curves, results/curves/ENTRY.png.

    Args:
      pages: The pages by name, see `PAGES`; others are skipped.
      folder: The results folder.
      tables: The folder of the CSV files.
      sweeps: Lists of runs whose missing runs are listed in the results page.
      check: Writes nothing, and raises CheckFailedError if something is out of date.

    Raises:
      ConfigError: If a page has no marks or a file under results/ cannot be read.
    """
    for page in pages.values():
        if not page.is_file():
            raise ConfigError(f"{page} not found: run this in the repository, or pass --root=FOLDER")
    texts = {path: _insert(path, sections) for path, sections in _sections(pages, folder, sweeps).items()}
    texts |= {tables / name: text for name, text in _csv_files(pages, folder).items()}
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text() != text]
    pictures = _pictures(pages, folder)
    stale_pictures = [path for path, (data, _) in pictures.items() if not curves.is_current(path, data)]
    if check and (stale or stale_pictures):
        names = ", ".join(str(path) for path in [*stale, *stale_pictures])
        raise CheckFailedError(f"out of date with {folder}/: {names}; run python scripts/compare.py")
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, texts[path])
    for path in stale_pictures:
        data, draw = pictures[path]
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path, data)


def print_runs(directories: Sequence[Path], *, ignore_damage: bool = False) -> None:
    """Prints the results table of finished run directories.

    Raises ConfigError if a run is not finished, CheckpointError if a directory is damaged; with
    `ignore_damage` a wrong checksum is a warning.
    """
    found = {}
    for directory in directories:
        run = open_run(directory, ignore_damage=ignore_damage)
        console.warn(*run.warnings)
        if run.result is None:
            raise ConfigError(f"{directory} holds no finished run: it has no {results.RESULT}")
        found[directory] = run.result
    console.log_text(_results_text(list(map(results_table.row_of, results_table.group_runs(found)))))


def _sections(pages: Mapping[str, Path], folder: Path, sweeps: Sequence[Path]) -> dict[Path, dict[str, str]]:
    """Returns the text between each page's marks."""
    splits = table_or_empty(leak_table.HEADS, leak_table.rows(folder))
    made: dict[str, Callable[[], dict[str, str]]] = {
        "readme": lambda: {"splits": table_or_empty(leak_table.SHORT_HEADS, leak_table.short_rows(folder))},
        "results": lambda: {
            "splits": splits,
            "comparable": table_or_empty(
                results_table.COMPARABLE_HEADS, results_table.comparable_rows(results_table.rows(folder))
            ),
            "missing": "\n\n".join(filter(None, (leak_table.missing(folder, path) for path in sweeps))),
        },
        "performance": lambda: {
            **bench_table.sections(folder / BENCH),
            **performance_page.sections(_newest_rows(folder)),
        },
        "lc25000": lambda: {
            "splits": splits,
            "groupings": table(groupings_table.HEADS, groupings_table.rows(folder)),
            "colour": table_or_empty(colour_table.HEADS, colour_table.rows(folder)),
            "stain": "\n\n".join((table_or_empty(stain_page.HEADS, stain_page.rows(folder)), STAIN_LINK)),
        },
    }
    return {page: made[name]() for name, page in pages.items()}


def _csv_files(pages: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """Returns the CSV files of the long tables of the pages, by name."""
    files: dict[str, str] = {}
    if "results" in pages:
        rows = map(results_table.csv_row, results_table.rows(folder))
        files["results.csv"] = csv_text(results_table.CSV_HEADS, rows)
    if "performance" in pages:
        files["benchmarks.csv"] = csv_text(bench_table.CSV_HEADS, bench_table.csv_rows(folder / BENCH))
        files |= performance_page.csv_files(_newest_rows(folder))
    if "lc25000" in pages:
        files["stain_shift.csv"] = csv_text(stain_page.CSV_HEADS, stain_page.csv_rows(folder))
    return files


def _newest_rows(folder: Path) -> dict[str, list[bench_table.BenchRow]]:
    """Returns the newest benchmark rows by machine."""
    newest = bench_table.newest_rows(folder / BENCH)
    return {name: [row for _, row in found.values()] for name, found in newest.items()}


def _results_text(rows: Sequence[results_table.ResultsRow]) -> str:
    return table_or_empty(results_table.HEADS, [results_table.markdown_row(row) for row in rows])


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


def _pictures(pages: Mapping[str, Path], folder: Path) -> Pictures:
    """Returns the pictures to draw: learning curves, and those of two pages."""
    pictures = _curve_pictures(folder) if "results" in pages else {}
    if "lc25000" in pages:
        splits, stain = splits_picture.drawn_data(folder), stain_page.drawn_data(folder)
        if splits["rows"]:
            pictures[pages["lc25000"].with_name(SPLITS)] = splits, splits_picture.draw
        if stain:
            pictures[pages["lc25000"].with_name(STAIN)] = stain, stain_page.draw
    if "performance" in pages:
        growth = growth_page.drawn_data(bench_table.newest_growth_rows(folder / BENCH))
        if growth["series"]:
            pictures[pages["performance"].parent / GROWTH] = growth, growth_page.draw
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
