"""results/bench/MACHINE-SUITE-DATE.json: written after every row, so that a suite can be run in pieces."""

import datetime
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.environment import CODE, LIBRARY
from benchmarks.measure import Entry
from jaxnets.errors import ConfigError, MachineError
from jaxnets.io import atomic_write

FOLDER = Path("results") / "bench"


def default_path(machine: str, suite: str, date: datetime.date) -> Path:
    """Where a suite's rows of a day on a machine lie."""
    return FOLDER / f"{_slug(machine)}-{suite}-{date.isoformat()}.json"


def newest(machine: str, suite: str, versions: dict[str, str]) -> Path | None:
    """The newest file of a suite on a machine, if it was measured with the same versions."""
    found = sorted(FOLDER.glob(f"{_slug(machine)}-{suite}-????-??-??.json"))
    return found[-1] if found and read(found[-1])["versions"] == versions else None


def _slug(machine: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", machine.lower()).strip("-")


def add_row(path: Path, machine: str, versions: dict[str, str], row: Entry) -> None:
    """Adds a row to the file, or puts it in the place of the one with its name.

    Raises ConfigError where the file is of another machine or other versions, MachineError where it
    cannot be written.
    """
    add_rows(path, machine, versions, row["name"], [row])


def add_rows(
    path: Path, machine: str, versions: dict[str, str], measured: str, rows: Sequence[Entry]
) -> None:
    """Adds all rows that come of measuring one thing, in the place of what it gave before.

    Each carries the thing's name as `measured`, where its own is another. Raises as `add_row` does.
    """
    content: dict[str, Any] = {"machine": machine, "versions": {}, "rows": []}
    if path.is_file():
        content = read(path)
        _check_same_conditions(path, content, machine, versions)
    stored = {row["name"]: row for row in content["rows"]}
    names = {row["name"] for row in rows}
    for name in [name for name, row in stored.items() if _measured(row) == measured]:
        if name not in names:
            del stored[name]
    for row in rows:
        stored[row["name"]] = row if row["name"] == measured else {**row, "measured": measured}
    content["versions"] = {**content["versions"], **versions}
    write(path, {**content, "rows": list(stored.values())})


def measured(path: Path) -> dict[str, Entry]:
    """What a file has rows of, and with which code and kernels; nothing if the file is missing."""
    rows = read(path)["rows"] if path.is_file() else ()
    return {_measured(row): {name: row.get(name) for name in (CODE, LIBRARY)} for row in rows}


def require_usable(path: Path, machine: str, versions: dict[str, str]) -> None:
    """Raises what `add_row` would, before anything is measured."""
    if path.is_file():
        _check_same_conditions(path, read(path), machine, versions)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _cannot_be_written(path, error) from error


def _measured(row: Mapping[str, Any]) -> str:
    return row.get("measured", row["name"])


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes a bench file; raises MachineError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise _cannot_be_written(path, error) from error


def _cannot_be_written(path: Path, error: OSError) -> MachineError:
    return MachineError(f"{path} cannot be written ({error.strerror}): choose another --output")


def read(path: Path) -> dict[str, Any]:
    """A bench file; raises ConfigError where it is none."""
    try:
        content = json.loads(path.read_text())
        if not isinstance(content["rows"], list) or not isinstance(content["versions"], dict):
            raise TypeError("rows or versions")
        content["machine"]
        return content
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a bench file: choose another --output") from error


def _check_same_conditions(
    path: Path, content: dict[str, Any], machine: str, versions: dict[str, str]
) -> None:
    there = {"machine": content["machine"], **content["versions"]}
    now = {"machine": machine, **versions}
    for name in there.keys() & now.keys():
        if there[name] != now[name]:
            raise ConfigError(
                f"{path} was measured with {name} {there[name]!r}, now it is {now[name]!r}: "
                "choose another --output"
            )
