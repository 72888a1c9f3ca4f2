"""Group files: which images show the same photograph, and which photographs overlap."""

import csv
import dataclasses
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from jaxnets.data.sources.image_folder import natural_order
from jaxnets.errors import DataError
from jaxnets.io import atomic_write
from jaxnets.text import csv_cell, from_csv_cell

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
        missing = [file for file in files if file not in self.members]
        unexpected = [file for file in self.members if file not in known]
        if missing:
            raise DataError(
                f"{self.name}: {len(missing):,} of the data's {len(files):,} files are missing "
                f"({missing[0]}); find groups again: python scripts/find_duplicates.py DIR"
            )
        if unexpected:
            raise DataError(
                f"{self.name}: lists {len(unexpected):,} files that are not in the data "
                f"({unexpected[0]}); use a matching file, or remove these lines"
            )
        originals, groups = zip(*(self.members[file] for file in files), strict=True)
        return _factorize(originals), _factorize(groups)

    def to_csv(self) -> str:
        """CSV of `file,original,group`, one line per file in natural order."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for file in sorted(self.members, key=natural_order):
            writer.writerow(map(csv_cell, (file, *self.members[file])))
        return text.getvalue()

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
        return _parse(str(path), [(str(path), _read_text(path))])
    tables = [
        table
        for table in sorted(path.iterdir())
        if table.name.endswith((".csv", ".csv.gz")) and not table.name.startswith(".")
    ]
    if not tables:
        raise DataError(f"{path}: no csv file in this folder; give a table of groups")
    return _parse(str(path), [(str(table), _read_text(table)) for table in tables])


def shipped_groups(source_name: str) -> Groups | None:
    """The groups of a source that are part of this package; None if there are none."""
    name = f"{source_name}_groups.csv.gz"
    file = resources.files("jaxnets.data").joinpath(name)
    if not file.is_file():
        return None
    return _parse(name, [(name, _decode(file.read_bytes(), name))])


def _parse(name: str, texts: Sequence[tuple[str, str]]) -> Groups:
    members: dict[str, tuple[str, str]] = {}
    group_of: dict[str, str] = {}
    for table, text in texts:
        for line, file, original, group in _rows(table, text):
            if file in members:
                why = "in two groups" if members[file][1] != group else "listed twice"
                raise DataError(f"{table}, line {line}: {file} is {why}; list each file once")
            if group_of.setdefault(original, group) != group:
                raise DataError(
                    f"{table}, line {line}: original {original} is in two groups, "
                    f"{group_of[original]} and {group}; groups must not divide originals"
                )
            members[file] = (original, group)
    if not members:
        raise DataError(
            f"{name}: lists no files; expected one line per file with the columns {','.join(COLUMNS)}"
        )
    return Groups(name, members)


def _rows(table: str, text: str) -> Iterator[tuple[int, str, str, str]]:
    """Yields line number, file, original and group from either format."""
    reader = csv.DictReader(io.StringIO(text))
    try:
        head = set(reader.fieldnames or ())
        ours = head.issuperset(COLUMNS)
        if not ours and not head.issuperset(CLEAN_COLUMNS):
            raise DataError(
                f"{table}: its header lacks the columns {','.join(COLUMNS)} (or {','.join(CLEAN_COLUMNS)})"
            )
        for row in reader:
            values = [row[column] for column in (COLUMNS if ours else CLEAN_COLUMNS)]
            if not all(values) or None in row:
                raise DataError(
                    f"{table}, line {reader.line_num}: wrong number of values; "
                    f"the columns are {','.join(reader.fieldnames or ())}"
                )
            file, original, group = map(from_csv_cell, values) if ours else _from_clean(*values)
            yield reader.line_num, file, original, group
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: not valid csv ({error})") from error


def _from_clean(label: str, path: str) -> tuple[str, str, str]:
    """Maps ./LC25000/lung_aca/lungaca1.jpeg to lung_aca/lungaca1.jpeg."""
    file = "/".join(path.split("/")[-2:])
    cluster = f"{file.split('/')[0]}/{label}" if "/" in file else label
    return file, cluster, cluster


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return _decode(data, str(path))


def _decode(data: bytes, name: str) -> str:
    try:
        if name.endswith(".gz"):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{name}: is damaged or not a csv file ({error}); copy it again") from error


def _factorize(labels: Sequence[str]) -> np.ndarray:
    """int64[N]: numbers the labels in order of appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], np.int64)
