"""Images listed in a CSV file, with their labels and, if they are known, groups and splits."""

import csv
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.batch import Example
from jaxnets.data.images import MAX_PIXELS
from jaxnets.data.sources.base import read_file
from jaxnets.data.sources.image_folder import ImageFiles, groups_from_names
from jaxnets.errors import ConfigError, DataError, suggest
from jaxnets.io import from_csv_cell

REQUIRED, OPTIONAL = ("path", "label"), ("group", "split")
SPLITS = ("train", "validation", "test")
_COLUMNS = "the columns are path,label and optionally group,split"
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_FORMULA = ("=", "@", "\t", "\r")  # labels such as + and - are not formulas
_MAX_ROWS = 5  # that an error lists


class _Row(NamedTuple):
    """A row as a spreadsheet numbers it, and its cells by column."""

    number: int
    cells: dict[str, str]


class _Problems:
    """Collects the problems of rows; errors list those of the first kind."""

    def __init__(self, table: Path):
        self._table = table
        self._found: dict[str, list[tuple[int, str]]] = {}

    def add(self, row: int, problem: str, remedy: str) -> None:
        """Adds a problem; problems of one kind have one remedy."""
        self._found.setdefault(remedy, []).append((row, problem))

    def raise_first(self) -> None:
        """Raises DataError if there are problems."""
        for remedy, rows in self._found.items():
            (number, problem), *others = rows
            listed = ", ".join(str(row) for row, _ in others[:_MAX_ROWS])
            more = f" and {len(others) - _MAX_ROWS:,} more" if len(others) > _MAX_ROWS else ""
            also = f" (also row{'s' * (len(others) > 1)} {listed}{more})" if others else ""
            raise DataError(f"{self._table}, row {number}: {problem}{also}; {remedy}")


class Table(ImageFiles):
    """The images of a CSV file with the columns path and label, and optionally group and split.

    Paths are relative to one of `image_folders` (by default the table's folder), or absolute and inside one
    of them. Rows are numbered as in a spreadsheet: the header is row 1. `files` are relative to the folder
    that contains all image folders. Other columns are ignored.

    Args:
        path: the table: UTF-8, separated by commas.
        image_folders: the folders of the images.
        classes: the class names in the order of their labels; empty: all labels, sorted.
        group_pattern: captures the group in each path, if there is no column group.
        max_pixels: the maximum pixels of an image.

    Raises:
        ConfigError: the column and the pattern both define groups, or an image folder does not exist.
        DataError: the table cannot be used; the message has the numbers of the rows.
    """

    name = "table"

    def __init__(
        self,
        path: str | Path,
        image_folders: Sequence[str | Path] = (),
        classes: Sequence[str] = (),
        group_pattern: str | None = None,
        max_pixels: int = MAX_PIXELS,
    ):
        self._table = table = Path(path)
        problems = _Problems(table)
        rows = list(_rows(table, problems))
        problems.raise_first()
        if not rows:
            raise DataError(f"{table}: has no rows; {_COLUMNS}")
        folders = [os.path.abspath(folder) for folder in image_folders or (table.parent,)]
        for folder in folders:
            if not os.path.isdir(folder):
                raise ConfigError(f"--config.data.image_folders: {folder} is not a folder")
        root = os.path.commonpath(folders)
        row_of = _find_files(rows, folders, root, problems)
        names = _check_labels(table, rows, classes, problems)
        labels = dict(zip(row_of, (row.cells["label"] for row in rows), strict=True))
        super().__init__(Path(root), labels, names, max_pixels)
        self._rows = tuple(row_of.values())
        self.groups_remedy = (
            f"add a column group to {table}, such as the patient, or set --config.data.group_pattern or "
            "--config.data.find_groups=True"
        )
        self.split_remedy = f"write train or test into the column split of {table}"
        if "group" in rows[0].cells:
            if group_pattern is not None:
                raise ConfigError(f"{table} has a column group: remove --config.data.group_pattern")
            self.groups = np.unique([row.cells["group"] for row in rows], return_inverse=True)[1]
        elif group_pattern is not None:
            self.groups = groups_from_names(self.files, group_pattern)
        self.official_split = None
        if "split" in rows[0].cells:
            splits = np.array([row.cells["split"] for row in rows])
            found = {split: np.flatnonzero(splits == split) for split in SPLITS}
            self.official_split = {split: indices for split, indices in found.items() if len(indices)}

    def _read(self, index: int) -> Example:
        try:
            return super()._read(index)
        except DataError as error:
            raise DataError(f"{self._table}, row {self._rows[index]}: {error}") from error

    def locate_example(self, index: int) -> str:
        return f"row {self._rows[index]} ({self.files[index]})"

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of every file's path, size and content, and of every label."""
        labels = "\0".join(self.classes[label] for label in self.labels)
        return hashlib.sha256(f"{super().fingerprint}\n{labels}".encode()).hexdigest()


def _rows(table: Path, problems: _Problems) -> Iterator[_Row]:
    """Yields the rows that are not empty, with the cells of the known columns."""
    reader = csv.reader(io.StringIO(_decode(table), newline=""), strict=True)
    number, header = 0, []
    try:
        for number, cells in enumerate(reader, 1):
            if number == 1:
                header = _check_header(table, cells)
            elif any(cells):
                if len(cells) == len(header):
                    yield _check_cells(_Row(number, dict(zip(header, cells, strict=True))), problems)
                    continue
                counted = f"has {len(cells)} values, and the header has {len(header)}"
                problems.add(number, counted, "put quotes around values that contain a comma")
    except csv.Error as error:
        raise DataError(
            f"{table}, row {number + 1}: is not valid CSV ({error}); correct its quotes"
        ) from error


def _decode(table: Path) -> str:
    remedy = "give a CSV file to --config.data.path"
    if table.is_dir():
        remedy += ", or set --config.data.name=image_folder"
    data = read_file(table, remedy)
    if data.startswith(b"PK\x03\x04"):
        raise DataError(f"{table}: is a spreadsheet or zip file, not CSV; save it as CSV UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{table}: is encoded as UTF-16; save it as CSV UTF-8") from error
        row = 1 + data[: error.start].count(b"\n")
        found = f"row {row} has the byte 0x{data[error.start]:02x}"
        raise DataError(f"{table}: is not encoded as UTF-8 ({found}); save it as CSV UTF-8") from error
    if "\0" in text:
        raise DataError(f"{table}: contains zero bytes, as in UTF-16; save it as CSV UTF-8")
    return text


def _check_header(table: Path, cells: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    for separator, plural in _SEPARATORS.items():
        if set(REQUIRED) <= {name.strip(' "') for cell in cells for name in cell.split(separator)} - set(
            header
        ):
            raise DataError(f"{table}: its columns are separated by {plural}; save it with commas")
    for column in REQUIRED:
        if column not in header:
            found = ", ".join(filter(None, header)) or "none"
            raise DataError(f"{table}: the column {column} is missing, found {found}; {_COLUMNS}")
    for column in (*REQUIRED, *OPTIONAL):
        if header.count(column) > 1:
            raise DataError(f"{table}: has two columns {column}; remove one")
    return header


def _check_cells(row: _Row, problems: _Problems) -> _Row:
    """The cells of the known columns, without the apostrophe that protects text in a spreadsheet."""
    cells: dict[str, str] = {}
    for column in (*REQUIRED, *OPTIONAL):
        if (given := row.cells.get(column)) is None:
            continue
        if given.startswith(_FORMULA):
            remedy = "write the value instead, or an apostrophe before text that starts so"
            problems.add(row.number, f"{column} is a formula, {given!r}", remedy)
        cells[column] = from_csv_cell(given.strip())
        if not cells[column]:
            problems.add(row.number, f"{column} is empty", f"fill the column {column}, or remove the row")
    if (split := cells.get("split")) and split not in SPLITS:
        problems.add(
            row.number, f"split is {split!r}{suggest(split, SPLITS)}", f"use one of {', '.join(SPLITS)}"
        )
    return _Row(row.number, cells)


def _find_files(
    rows: Sequence[_Row], folders: Sequence[str], root: str, problems: _Problems
) -> dict[str, int]:
    """The row of each image by its path relative to `root`; missing and doubled images are problems."""
    row_of: dict[str, int] = {}
    for row in rows:
        file = _find(row, folders, problems)
        if file is not None:
            name = Path(os.path.relpath(file, root)).as_posix()
            if (first := row_of.setdefault(name, row.number)) != row.number:
                problem = f"{row.cells['path']} is listed in row {first} already"
                problems.add(row.number, problem, "list each image once")
    return row_of


def _find(row: _Row, folders: Sequence[str], problems: _Problems) -> str | None:
    """The absolute path of a row's image; None, and a problem, if it is not in exactly one folder."""
    given = row.cells["path"]
    paths = dict.fromkeys(os.path.normpath(os.path.join(folder, given)) for folder in folders)
    inside = [path for path in paths if any(Path(path).is_relative_to(folder) for folder in folders)]
    found = [path for path in inside if os.path.isfile(path)]
    places = " and ".join(folders)
    if len(found) == 1:
        return found[0]
    if found:
        problems.add(row.number, f"{given} is in several folders, {places}", "write an absolute path")
    elif not inside:
        remedy = "move the image, or add its folder to --config.data.image_folders"
        problems.add(row.number, f"{given} is outside of {places}", remedy)
    else:
        hint = (
            "write / instead of \\"
            if "\\" in given
            else "correct the path, or set --config.data.image_folders"
        )
        problems.add(row.number, f"{given} is not a file in {places}", hint)
    return None


def _check_labels(
    table: Path, rows: Sequence[_Row], classes: Sequence[str], problems: _Problems
) -> tuple[str, ...]:
    """The class names; raises the problems so far, and unknown labels if `classes` are given."""
    labels = {row.cells["label"] for row in rows}
    names = tuple(classes) or tuple(sorted(labels))
    if len(set(names)) < len(names):
        raise ConfigError(f"--config.data.classes={names} has a class twice")
    for row in rows:
        if (label := row.cells["label"]) not in names:
            remedy = f"correct it, or add it to --config.data.classes ({', '.join(names)})"
            problems.add(row.number, f"unknown label {label!r}{suggest(label, names)}", remedy)
    problems.raise_first()
    if len(names) < 2:
        raise DataError(f"{table}: all rows have the label {names[0]}, but at least two classes are needed")
    if empty := set(names) - labels:
        raise DataError(f"{table}: no row has the label {min(empty)}; remove it from --config.data.classes")
    return names
