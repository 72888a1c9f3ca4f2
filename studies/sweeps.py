"""Tables of runs, configs/sweeps/*.py: reading, naming, and the command of each row."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnets import config as config_lib
from jaxnets.errors import ConfigError, suggest
from jaxnets.experiment.resolve import AUTO, load_config
from jaxnets.experiment.run_files import FIELDS_ALLOWED_TO_DIFFER
from jaxnets.experiment.sweep import Row

TABLES = Path("configs/sweeps")
RUNS = Path("runs")
KEYS = ("config", "overrides", "seed", "name")
MAX_NAME_LENGTH = 200


def read_table(table: str, only: Sequence[str] = ()) -> list[Row]:
    """Returns the rows of configs/sweeps/TABLE.py, or of the file TABLE, in order.

    `only` selects rows whose name contains one of the given texts. Raises ConfigError if the table is
    unknown, a row is invalid, two rows have the same name, or no row is selected.
    """
    path = _table_path(table)
    raw = _raw_rows(path)
    rows = [_row(entry, f"{path}, row {number}") for number, entry in enumerate(raw, 1)]
    names = [row.name for row in rows]
    for number, name in enumerate(names, 1):
        first = names.index(name) + 1
        if first != number:
            raise ConfigError(
                f"{path}: rows {first} and {number} are both named {name!r}: remove one, or give one a 'name'"
            )
    chosen = [row for row in rows if not only or any(text in row.name for text in only)]
    if not chosen:
        raise ConfigError(f"--only={','.join(only)} is in no row's name; {path} has {_list(names)}")
    return chosen


def row_names(path: Path) -> list[str]:
    """Returns the names of the rows that have a 'name', without loading configs.

    Raises ConfigError if the file is not a table.
    """
    return [entry["name"] for entry in _raw_rows(path) if "name" in entry]


def _table_path(table: str) -> Path:
    is_path = table.endswith(".py") or "/" in table
    path = Path(table) if is_path else TABLES / f"{table}.py"
    if path.is_file():
        return path
    tables = [file.stem for file in sorted(TABLES.glob("[!_]*.py"))]
    hint = f"there are {_list(tables)}" if tables else f"{TABLES}/ not found: run this in the repository"
    raise ConfigError(f"no table {table!r}{suggest(path.stem, tables)}; {hint}")


def _raw_rows(path: Path) -> list[Any]:
    try:
        module = config_lib.import_file(path)
        rows = list(module.get_rows())
    except Exception as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"{path} is not a table: {type(error).__name__}: {message}") from error
    if not rows:
        raise ConfigError(f"{path} has no rows")
    return rows


def _row(entry: Any, where: str) -> Row:
    overrides, seed = _check(entry, where)
    settings = {**overrides, "seed": seed}
    try:
        config = load_config(entry["config"], settings)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if config.data.name == AUTO:
        raise ConfigError(
            f"{where}: data.name is {AUTO!r}, which may fall back to synthetic tissue: override it"
        )
    name = entry.get("name") or _derived_name(config.name, overrides, seed)
    if not re.fullmatch(r"\w[\w.+-]*", name, re.ASCII) or len(name) > MAX_NAME_LENGTH:
        raise ConfigError(
            f"{where}: {name!r} is not a valid directory name: give a 'name' of at most {MAX_NAME_LENGTH} "
            "letters, digits and . _ + -"
        )
    return Row(name, entry["config"], settings, config)


def _check(entry: Any, where: str) -> tuple[dict[str, Any], int]:
    """Returns the overrides and the seed of an entry; raises ConfigError if it is invalid."""
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} must be a dict with the keys {_list(KEYS)}, not {entry!r}")
    for key in entry:
        if key not in KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}{suggest(key, KEYS)}; it may have {_list(KEYS)}")
    if not isinstance(entry.get("config"), str):
        raise ConfigError(f"{where}: 'config' must be a string: configs/NAME.py or configs/NAME.py:VARIANT")
    if not isinstance(entry.get("name", ""), str):
        raise ConfigError(f"{where}: 'name' must be a string, not {entry['name']!r}")
    seed = entry.get("seed", 0)
    if type(seed) is not int:
        raise ConfigError(f"{where}: 'seed' must be an integer, not {seed!r}")
    overrides = entry.get("overrides", {})
    if not isinstance(overrides, Mapping):
        raise ConfigError(f"{where}: 'overrides' must be a dict of dotted path: value")
    for path in overrides:
        if path == "seed":
            raise ConfigError(f"{where}: give the seed as 'seed', not among the overrides")
    return {path: _tuple(value) for path, value in overrides.items()}, seed


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _derived_name(config_name: str, overrides: Mapping[str, Any], seed: int) -> str:
    """Returns CONFIG-VARIANT-FIELDVALUE-...-sSEED; the order of overrides does not matter."""
    fields = [
        path for path in config_lib.FIELDS if path in overrides and path not in FIELDS_ALLOWED_TO_DIFFER
    ]
    parts = [_part(path, overrides[path]) for path in fields]
    return "-".join([config_name.replace(":", "-"), *parts, f"s{seed}"])


def _part(path: str, value: Any) -> str:
    leaf = path.split(".")[-1]
    same_name = [field for field in config_lib.FIELDS if field.split(".")[-1] == leaf]
    field = path if len(same_name) > 1 else leaf
    if isinstance(value, tuple):
        text = "_" + "x".join(str(each) if isinstance(each, str) else f"{each:g}" for each in value)
    elif isinstance(value, str | bool):
        text = f"_{value}"
    else:
        text = f"{value}"
    return field + re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
