"""Bench files, results/bench/MACHINE-SUITE-DATE.json: written after every row, so a suite can be resumed."""

import datetime
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.schema import BenchFile, BenchRow, Conditions, Machine
from jaxnets.errors import ConfigError, MachineError
from jaxnets.io import atomic_write

FOLDER = Path("results") / "bench"


def default_path(machine: Machine, suite: str, *, resume: bool = False) -> Path:
    """Returns today's file; with `resume` the newest one if its versions are the same."""
    slug = re.sub(r"[^a-z0-9]+", "-", machine["machine"].lower()).strip("-")
    existing = sorted(FOLDER.glob(f"{slug}-{suite}-????-??-??.json")) if resume else []
    if existing and read(existing[-1])["versions"] == machine["versions"]:
        return existing[-1]
    return FOLDER / f"{slug}-{suite}-{datetime.date.today().isoformat()}.json"


def add_rows(path: Path, machine: Machine, measurement: str, rows: Sequence[BenchRow]) -> None:
    """Adds the rows of a measurement, replacing those of an earlier one.

    A row with another name stores the measurement's name as `measured`. Raises ConfigError if the file is
    from another machine or other versions, MachineError if it cannot be written.
    """
    content: BenchFile = {"machine": machine["machine"], "versions": {}, "rows": []}
    if path.is_file():
        content = read(path)
        _check_same_machine(path, content, machine)
    names = {row["name"] for row in rows}
    stored = {
        row["name"]: row
        for row in content["rows"]
        if row["name"] in names or row.get("measured", row["name"]) != measurement
    }
    for row in rows:
        stored[row["name"]] = row if row["name"] == measurement else {**row, "measured": measurement}
    content["versions"] = {**content["versions"], **machine["versions"]}
    content["rows"] = list(stored.values())
    write(path, content)


def read_conditions(path: Path) -> dict[str, Conditions]:
    """Returns code and kernels of each measurement in a file; empty if the file is missing."""
    rows = read(path)["rows"] if path.is_file() else ()
    return {
        row.get("measured", row["name"]): {
            "code": row.get("code"),
            "kernels_library": row.get("kernels_library"),
        }
        for row in rows
    }


def check_usable(path: Path, machine: Machine) -> None:
    """Raises what `add_rows` would raise, before anything is measured."""
    if path.is_file():
        _check_same_machine(path, read(path), machine)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _write_error(path, error) from error


def write(path: Path, content: BenchFile) -> None:
    """Writes a bench file; raises MachineError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise _write_error(path, error) from error


def _write_error(path: Path, error: OSError) -> MachineError:
    return MachineError(f"{path} cannot be written ({error.strerror}): choose another --output")


def read(path: Path) -> BenchFile:
    """Reads a bench file; raises ConfigError if it is not one."""
    try:
        content = json.loads(path.read_text())
        if not isinstance(content["rows"], list) or not isinstance(content["versions"], dict):
            raise TypeError("rows or versions")
        content["machine"]
        return content
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a bench file: choose another --output") from error


def _check_same_machine(path: Path, content: BenchFile, machine: Machine) -> None:
    stored = {"machine": content["machine"], **content["versions"]}
    now = {"machine": machine["machine"], **machine["versions"]}
    for name in stored.keys() & now.keys():
        if stored[name] != now[name]:
            raise ConfigError(
                f"{path} was measured with {name} {stored[name]!r}, now it is {now[name]!r}: "
                "choose another --output"
            )
