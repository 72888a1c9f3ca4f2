"""Which images are one photograph, and which photographs overlap: the files that say so."""

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
"""The heads of our format and of LC25000-clean's (Batchkala et al., MICCAI 2024 workshops)."""


@dataclasses.dataclass(frozen=True)
class Groups:
    """Every file's (original, group), as a source's `files` names it; `name` is what errors call it.

    An original is one photograph with its transformed copies; a group is one original, or several
    whose photographs overlap. A split without leaks keeps groups whole. Labels are any text.
    """

    name: str
    members: Mapping[str, tuple[str, str]]

    def match(self, files: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The originals and the groups of a source's files, in their order: two int64[N] from 0.

        Raises DataError unless both name the same files.
        """
        known = set(files)
        missing = [file for file in files if file not in self.members]
        strange = [file for file in self.members if file not in known]
        if missing:
            raise DataError(
                f"{self.name}: {len(missing):,} of the data's {len(files):,} files are missing "
                f"in it ({missing[0]}); find groups anew: python scripts/find_duplicates.py DIR"
            )
        if strange:
            raise DataError(
                f"{self.name}: names {len(strange):,} files that the data does not have "
                f"({strange[0]}); it belongs to other data, or remove their lines"
            )
        originals, groups = zip(*(self.members[file] for file in files), strict=True)
        return _numbered(originals), _numbered(groups)

    def to_csv(self) -> str:
        """`file,original,group`, a line a file, numbers in names counted as numbers."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for file in sorted(self.members, key=natural_order):
            writer.writerow(map(csv_cell, (file, *self.members[file])))
        return text.getvalue()

    def write(self, path: Path) -> None:
        """Writes `to_csv` whole or not at all; packed where the name ends in .gz, the same bytes always."""
        if path.suffix == ".gz":
            atomic_write(path, gzip.compress(self.to_csv().encode(), mtime=0))
        else:
            atomic_write(path, self.to_csv())


def read_groups(path: Path) -> Groups:
    """Reads `file,original,group`, or LC25000-clean's `cluster_label,img_path`: a file or a folder of csv.

    Files may be packed (.gz). LC25000-clean's labels count anew in each class's folder, which is the
    last in `img_path`; its clusters become both originals and groups. Raises DataError for a
    file that is no such table, names a file twice, or has an original in two groups.
    """
    if not path.is_dir():
        return _parsed(str(path), [(str(path), _text(path))])
    parts = [part for part in sorted(path.iterdir()) if _is_table(part.name)]
    if not parts:
        raise DataError(f"{path}: no csv file in this folder; give a table of groups")
    return _parsed(str(path), [(str(part), _text(part)) for part in parts])


def _is_table(name: str) -> bool:
    return name.endswith((".csv", ".csv.gz")) and not name.startswith(".")


def shipped_groups(source_name: str) -> Groups | None:
    """The groups of a source that came with this package, None where there are none."""
    name = f"{source_name}_groups.csv.gz"
    place = resources.files("jaxnets.data").joinpath(name)
    if not place.is_file():
        return None
    return _parsed(name, [(name, _unpacked(place.read_bytes(), name))])


def _parsed(name: str, texts: Sequence[tuple[str, str]]) -> Groups:
    members: dict[str, tuple[str, str]] = {}
    group_of: dict[str, str] = {}
    for place, text in texts:
        for line, file, original, group in _rows(place, text):
            if file in members:
                why = "in two groups" if members[file][1] != group else "named twice"
                raise DataError(f"{place}, line {line}: {file} is {why}; give each file one line")
            if group_of.setdefault(original, group) != group:
                raise DataError(
                    f"{place}, line {line}: original {original} is in two groups, "
                    f"{group_of[original]} and {group}; a group holds whole originals"
                )
            members[file] = (original, group)
    if not members:
        raise DataError(f"{name}: names no file; it needs a line a file under {','.join(COLUMNS)}")
    return Groups(name, members)


def _rows(place: str, text: str) -> Iterator[tuple[int, str, str, str]]:
    """Yields line, file, original and group of either format."""
    reader = csv.DictReader(io.StringIO(text))
    try:
        head = set(reader.fieldnames or ())
        ours = head.issuperset(COLUMNS)
        if not ours and not head.issuperset(CLEAN_COLUMNS):
            raise DataError(
                f"{place}: its first line lacks the columns {','.join(COLUMNS)} "
                f"(or {','.join(CLEAN_COLUMNS)})"
            )
        for row in reader:
            values = [row[column] for column in (COLUMNS if ours else CLEAN_COLUMNS)]
            if not all(values) or None in row:
                raise DataError(
                    f"{place}, line {reader.line_num}: a value is missing or too many are there; "
                    f"its columns are {','.join(reader.fieldnames or ())}"
                )
            file, original, group = map(from_csv_cell, values) if ours else _from_clean(*values)
            yield reader.line_num, file, original, group
    except csv.Error as error:
        raise DataError(f"{place}, line {reader.line_num}: no csv ({error})") from error


def _from_clean(label: str, path: str) -> tuple[str, str, str]:
    """./LC25000/lung_aca/lungaca1.jpeg is lung_aca/lungaca1.jpeg here."""
    file = "/".join(path.split("/")[-2:])
    cluster = f"{file.split('/')[0]}/{label}" if "/" in file else label
    return file, cluster, cluster


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return _unpacked(data, str(path))


def _unpacked(data: bytes, name: str) -> str:
    try:
        if name.endswith(".gz"):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{name}: is damaged or no csv ({error}); copy it again") from error


def _numbered(labels: Sequence[str]) -> np.ndarray:
    """int64[N]: labels as numbers, in the order in which they come."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], np.int64)
