"""Group files: which images show the same photograph, and which photographs overlap."""

import csv
import dataclasses
import gzip
import io
import zlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from jaxnets.data.sources.image_folder import natural_order
from jaxnets.errors import DataError
from jaxnets.io import atomic_write, command, csv_table, from_csv_cell

COLUMNS = ("file", "original", "group")
CLEAN_COLUMNS = ("cluster_label", "img_path")
"""The columns of our format and of LC25000-clean (Batchkala et al., MICCAI 2024 workshops)."""


@dataclasses.dataclass(frozen=True)
class Groups:
    """Every file's (original, group), by its name in the source's `files`; errors refer to it as `name`.

    An original is one photograph with its augmented copies. A group is one original, or several whose
    photographs overlap. Splits without leakage do not divide groups. Labels are arbitrary text.
    """

    name: str
    members: Mapping[str, tuple[str, str]]

    def match(self, files: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The originals and groups of a source's files, in order: two int64[N], counted from 0.

        Raises DataError unless both have the same files.
        """
        known = set(files)
        if missing := [file for file in files if file not in self.members]:
            problem = f"{len(missing):,} of the data's {len(files):,} files are missing ({missing[0]})"
            raise DataError(f"{self.name}: {problem}; run again: {command('find_duplicates')} DIR")
        if unexpected := [file for file in self.members if file not in known]:
            problem = f"lists {len(unexpected):,} files that are not in the data ({unexpected[0]})"
            raise DataError(f"{self.name}: {problem}; use a matching file, or remove these lines")
        originals, groups = zip(*(self.members[file] for file in files), strict=True)
        return in_order(originals), in_order(groups)

    def to_csv(self) -> str:
        """CSV of `file,original,group`, one line per file in natural order."""
        files = sorted(self.members, key=natural_order)
        return csv_table([COLUMNS, *((file, *self.members[file]) for file in files)])

    def write(self, path: Path) -> None:
        """Writes `to_csv` atomically; compressed if the name ends in .gz, with reproducible bytes."""
        data = self.to_csv().encode()
        atomic_write(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read_groups(path: Path) -> Groups:
    """Reads `file,original,group`, or LC25000-clean's `cluster_label,img_path`, from a file or a folder.

    Of a folder, all csv files are read. Files may be compressed (.gz). LC25000-clean numbers its labels
    within each class folder, the last one in `img_path`; its clusters become both originals and groups.
    Raises DataError if a file is not such a table, lists a file twice, or has an original in two groups.
    """
    if not path.is_dir():
        return _parse(str(path), [path])
    visible = (file for file in sorted(path.iterdir()) if not file.name.startswith("."))
    tables = [file for file in visible if file.name.endswith((".csv", ".csv.gz"))]
    if not tables:
        raise DataError(f"{path}: no csv file in this folder; give a table of groups")
    return _parse(str(path), tables)


def shipped_groups(source_name: str, files: Sequence[str] = ()) -> Groups:
    """The groups of a source with `ships_groups`; of `files` that its table lacks, each is its own group."""
    name = f"{source_name}_groups.csv.gz"
    listed = _parse(name, [resources.files("jaxnets.data") / name]).members
    alone = {file: (file, file) for file in files if file not in listed}
    return Groups(name, {**listed, **alone})


def in_order(labels: Iterable[Hashable]) -> np.ndarray:
    """int64[N]: numbers the labels in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], np.int64)


def _parse(name: str, tables: Sequence[Traversable]) -> Groups:
    members: dict[str, tuple[str, str]] = {}
    group_of: dict[str, str] = {}
    for table in tables:
        for line, file, original, group in _rows(table):
            if file in members:
                why = "in two groups" if members[file][1] != group else "listed twice"
                raise DataError(f"{table}, line {line}: {file} is {why}; list each file once")
            if (other := group_of.setdefault(original, group)) != group:
                why = f"original {original} is in two groups, {other} and {group}"
                raise DataError(f"{table}, line {line}: {why}; groups must not divide originals")
            members[file] = (original, group)
    if not members:
        raise DataError(f"{name}: lists no files; give a line per file with the columns {','.join(COLUMNS)}")
    return Groups(name, members)


def _rows(table: Traversable) -> Iterator[tuple[int, str, str, str]]:
    """Yields line number, file, original and group."""
    reader = csv.DictReader(io.StringIO(_read(table)))
    try:
        head = reader.fieldnames or ()
        clean = not set(COLUMNS) <= set(head)
        columns = CLEAN_COLUMNS if clean else COLUMNS
        if not set(columns) <= set(head):
            ours, other = map(",".join, (COLUMNS, CLEAN_COLUMNS))
            raise DataError(f"{table}: its header lacks the columns {ours} (or {other})")
        for row in reader:
            values = [row[column] for column in columns]
            if not all(values) or None in row:
                problem = f"wrong number of values; the columns are {','.join(head)}"
                raise DataError(f"{table}, line {reader.line_num}: {problem}")
            file, original, group = _from_clean(*values) if clean else map(from_csv_cell, values)
            yield reader.line_num, file, original, group
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: not valid csv ({error})") from error


def _from_clean(label: str, path: str) -> tuple[str, str, str]:
    """Maps ./LC25000/lung_aca/lungaca1.jpeg to lung_aca/lungaca1.jpeg."""
    file = "/".join(path.split("/")[-2:])
    cluster = f"{file.split('/')[0]}/{label}" if "/" in file else label
    return file, cluster, cluster


def _read(table: Traversable) -> str:
    try:
        data = table.read_bytes()
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror}); check the path") from error
    try:
        return (gzip.decompress(data) if table.name.endswith(".gz") else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{table}: is damaged or not a csv file ({error}); copy it again") from error
