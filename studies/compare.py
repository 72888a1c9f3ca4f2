"""Writes the tables and pictures of README and docs/, and docs/tables/*.csv, from results/."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnets import reported
from jaxnets.errors import CheckFailedError, ConfigError
from jaxnets.evaluation import result as results
from jaxnets.experiment.run_directory import open_run
from jaxnets.io import atomic_write
from jaxnets.runtime import console
from studies import cifar10_duplicates, duplicates_controls, duplicates_scaling, few_images
from studies.pages import (
    bench_table,
    cifar10_table,
    colour_table,
    curves,
    duplicates_page,
    groupings_table,
    growth_page,
    leak_table,
    leakage_page,
    macenko_table,
    networks_table,
    onnx_table,
    parity_table,
    performance_page,
    results_table,
    splits_picture,
    stain_page,
    uncertainty_table,
)
from studies.pages.markdown import csv_text, table, table_or_empty

README, DOCS, RESULTS, BENCH = Path("README.md"), Path("docs"), Path("results"), "bench"
TABLES = DOCS / "tables"
SWEEPS = tuple(Path("configs") / "sweeps" / f"{name}.py" for name in ("lung", "lung_resnet", "lung_transfer"))
"""Lists of runs on LC25000 whose missing runs are listed."""
CURVES, LEAKAGE, STAIN = "curves", "leakage.png", "lc25000_stain.png"
STAIN_LINK = "[tables/stain_shift.csv](tables/stain_shift.csv) has every run, shift and strength."
GROWTH = Path("performance") / "growth.png"
DUPLICATES = "duplicates_benchmark.png"
Draw = Callable[[Path, Mapping[str, Any]], None]
Pictures = dict[Path, tuple[dict[str, Any], Draw]]
"""The data of each picture and the function that draws it."""


def compare(
    root: Path = Path(), folder: Path | None = None, *, sweeps: Sequence[Path] = (), check: bool = False
) -> None:
    """Writes all tables and pictures that are out of date.

    A table is inserted between marks such as `<!-- splits -->` and `<!-- end of splits -->`, in README.md or
    any page of docs/. Also writes the CSV files of the long tables, docs/tables/NAME.csv, and the learning
    curves, results/curves/ENTRY.png.

    Args:
      root: The repository.
      folder: The results folder, by default that of the repository.
      sweeps: Lists of runs whose missing runs are listed.
      check: Writes nothing, and raises CheckFailedError if something is out of date.

    Raises:
      ConfigError: If there is no README.md, a mark is not closed, or a file under results/ cannot be read.
    """
    folder = root / RESULTS if folder is None else folder
    if not (root / README).is_file():
        raise ConfigError(f"{root / README} not found: run this in the repository, or pass --root=FOLDER")
    texts = _pages(root, folder, sweeps)
    texts |= {root / TABLES / name: text for name, text in _csv_files(folder).items()}
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text() != text]
    pictures = _pictures(root / DOCS, folder)
    stale_pictures = [path for path, (data, _) in pictures.items() if not curves.is_current(path, data)]
    if check and (stale or stale_pictures):
        names = ", ".join(str(path) for path in [*stale, *stale_pictures])
        raise CheckFailedError(f"out of date with {folder}/: {names}; run python scripts/compare.py")
    for path in [*stale, *stale_pictures]:
        path.parent.mkdir(parents=True, exist_ok=True)
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
        console.warn(*run.warnings)
        if run.result is None:
            raise ConfigError(f"{directory} holds no finished run: it has no {results.RESULT}")
        found[directory] = run.result
    console.log_text(_results_text(list(map(results_table.row_of, results_table.group_runs(found)))))


def _pages(root: Path, folder: Path, sweeps: Sequence[Path]) -> dict[Path, str]:
    """Returns the text of each page with the section of each mark."""
    makers = sections(folder, sweeps)
    paths = (root / README, *sorted((root / DOCS).rglob("*.md")))
    return {path: _insert(path, makers) for path in paths}


def sections(folder: Path, sweeps: Sequence[Path] = ()) -> dict[str, Callable[[], str]]:
    """Returns the function that makes the text of each mark."""
    return {
        "networks": lambda: table(networks_table.HEADS, networks_table.rows()),
        "network_sources": lambda: table(
            networks_table.SOURCE_HEADS, networks_table.source_rows(folder / BENCH)
        ),
        "splits_short": lambda: table_or_empty(leak_table.SHORT_HEADS, leak_table.short_rows(folder)),
        "splits": lambda: table_or_empty(leak_table.HEADS, leak_table.rows(folder)),
        "comparable": lambda: table_or_empty(
            results_table.COMPARABLE_HEADS, results_table.comparable_rows(results_table.rows(folder))
        ),
        "missing": lambda: "\n\n".join(filter(None, (leak_table.missing(folder, path) for path in sweeps))),
        "groupings": lambda: table(groupings_table.HEADS, groupings_table.rows(folder)),
        "few_images": lambda: table_or_empty(few_images.HEADS, few_images.rows(folder)),
        "cifar10": lambda: table_or_empty(cifar10_table.HEADS, cifar10_table.rows(folder)),
        "cifar10_duplicates": lambda: table_or_empty(
            cifar10_duplicates.HEADS, cifar10_duplicates.rows(folder)
        ),
        "duplicates_copies": lambda: table_or_empty(
            duplicates_controls.HEADS, duplicates_controls.rows(folder)
        ),
        "duplicates_scaling": lambda: "\n\n".join(
            (
                table_or_empty(duplicates_scaling.HEADS, duplicates_scaling.rows(folder)),
                duplicates_scaling.law(folder),
            )
        ),
        "colour": lambda: table_or_empty(colour_table.HEADS, colour_table.rows(folder)),
        "onnx_exports": lambda: table_or_empty(onnx_table.HEADS, onnx_table.rows(folder)),
        "parity": lambda: table_or_empty(parity_table.HEADS, parity_table.pytorch_rows(folder, large=False)),
        "parity_full_size": lambda: table_or_empty(
            parity_table.HEADS, parity_table.pytorch_rows(folder, large=True)
        ),
        "parity_others": lambda: table_or_empty(parity_table.OTHER_HEADS, parity_table.other_rows(folder)),
        "parity_keras_full_size": lambda: table_or_empty(
            parity_table.KERAS_HEADS, parity_table.keras_rows(folder)
        ),
        "macenko": lambda: table_or_empty(macenko_table.HEADS, macenko_table.rows(folder / "lc25000")),
        "stain": lambda: f"{table_or_empty(stain_page.HEADS, stain_page.rows(folder))}\n\n{STAIN_LINK}",
        "prediction_sets": lambda: table_or_empty(
            uncertainty_table.SET_HEADS, uncertainty_table.set_rows(folder)
        ),
        "unlike_images": lambda: table_or_empty(
            uncertainty_table.IMAGE_HEADS, uncertainty_table.image_rows(folder)
        ),
        **{
            mark: functools.partial(bench_table.section, folder / BENCH, mark)
            for mark in bench_table.SECTIONS
        },
        **duplicates_page.sections(folder / BENCH),
        **leakage_page.sections(folder),
        **{mark: functools.partial(_performance_section, folder, mark) for mark in performance_page.SECTIONS},
    }


def _performance_section(folder: Path, mark: str) -> str:
    return performance_page.sections(_newest_rows(folder))[mark]


def _csv_files(folder: Path) -> dict[str, str]:
    """Returns the CSV files of the long tables, by name."""
    rows = map(results_table.csv_row, results_table.rows(folder))
    return {
        "results.csv": csv_text(results_table.CSV_HEADS, rows),
        "benchmarks.csv": csv_text(bench_table.CSV_HEADS, bench_table.csv_rows(folder / BENCH)),
        "stain_shift.csv": csv_text(stain_page.CSV_HEADS, stain_page.csv_rows(folder)),
        **performance_page.csv_files(_newest_rows(folder)),
    }


def _newest_rows(folder: Path) -> dict[str, list[bench_table.BenchRow]]:
    """Returns the newest benchmark rows by machine."""
    newest = bench_table.newest_rows(folder / BENCH)
    return {name: [row for _, row in found.values()] for name, found in newest.items()}


def _results_text(rows: Sequence[results_table.ResultsRow]) -> str:
    return table_or_empty(results_table.HEADS, [results_table.markdown_row(row) for row in rows])


def write_page(page: Path, makers: Mapping[str, Callable[[], str]]) -> None:
    """Writes the section of each mark into a page; raises ConfigError if a mark is not closed."""
    atomic_write(page, _insert(page, makers))


def _insert(page: Path, makers: Mapping[str, Callable[[], str]]) -> str:
    """Returns a page's text with each section between its marks."""
    text = page.read_text()
    for mark, make in makers.items():
        begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if bool(found) != bool(closed):
            raise ConfigError(f"{page} lacks {end!r}, which ends the table")
        if found:
            text = f"{before}{begin}\n{make()}\n{end}{after}"
    return text


def _pictures(docs: Path, folder: Path) -> Pictures:
    """Returns the pictures to draw: learning curves, and those of docs/."""
    pictures = _curve_pictures(folder)
    leakage, stain = leakage_page.drawn_data(folder), stain_page.drawn_data(folder)
    growth = growth_page.drawn_data(bench_table.rows_of_last_machine(folder / BENCH, "growth"))
    if leakage["rows"]:
        pictures[docs / LEAKAGE] = leakage, splits_picture.draw
    if stain:
        pictures[docs / STAIN] = stain, stain_page.draw
    if growth["series"]:
        pictures[docs / GROWTH] = growth, growth_page.draw
    if duplicates := duplicates_page.drawn_data(folder / BENCH):
        pictures[docs / DUPLICATES] = duplicates, duplicates_page.draw
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
