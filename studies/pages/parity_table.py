"""The tables of docs/parity.md, from results/parity.json: `python -m studies.pages.parity_table XML...`.

The tests of `pytest -m oracle --junitxml=XML` add their errors to XML as properties named "parity". The
command copies those of passed tests to results/parity.json, where they replace older errors.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict
from xml.etree import ElementTree

from jaxnets import models
from jaxnets.errors import ConfigError
from jaxnets.io import atomic_write

NUMBERS = "parity.json"
"""The file of the results folder."""
PYTORCH, KERAS, TIMM = "PyTorch", "Keras", "timm"
"""PyTorch is torchvision, timm for networks that torchvision lacks, or the reports' listings."""
ERRORS = ("float32", "logits", "training", "statistics", "gradient")
"""Of logits in single precision and, in double precision, of logits, logits in training mode, and so on."""
HEADS = ("network, pixels", "logits, float32", "logits", "in training", "statistics", "gradient")
LIMITS = ("limit", "1e-4", "1e-10", "1e-9", "1e-10", "1e-8")
OTHER_HEADS = ("network, pixels", "Keras", "Keras, in training", "statistics", "gradient", "timm")
OTHER_LIMITS = ("limit", "1e-9", "1e-9", "1e-8", "1e-8", "1e-10")
KERAS_HEADS, KERAS_LIMITS = ("network, pixels", "Keras"), ("limit", "1e-9")
LARGE = 224
"""Pixels from which images have the size of the original."""


class ParityRow(TypedDict):
    """The largest relative errors of a network beside a library, by `ERRORS`."""

    library: str
    network: str
    variant: str | None
    pixels: int
    errors: dict[str, float]


Key = tuple[str, str | None, int]
"""Network, variant (None is the network's default) and pixels."""


def read(folder: Path) -> list[ParityRow]:
    """Reads the rows of a results folder; an empty list if it lacks the file."""
    path = folder / NUMBERS
    if not path.is_file():
        return []
    try:
        rows: list[ParityRow] = json.loads(path.read_text())
        return sorted(rows, key=_order)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path} is not a file of studies.pages.parity_table: measure again") from error


def pytorch_rows(folder: Path, *, large: bool) -> list[tuple[str, ...]]:
    """Returns a row per network beside PyTorch, with images of 224 pixels and more or with smaller ones."""
    rows = [row for row in read(folder) if row["library"] == PYTORCH and (row["pixels"] >= LARGE) == large]
    return _with_limits(LIMITS, [(_title(_key(row)), *_cells(row["errors"], ERRORS)) for row in rows])


def other_rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns a row per network beside Keras or timm, with images smaller than 224 pixels."""
    found: dict[Key, dict[str, dict[str, float]]] = {}
    for row in read(folder):
        if row["library"] != PYTORCH and row["pixels"] < LARGE:
            found.setdefault(_key(row), {})[row["library"]] = row["errors"]
    rows = [
        (_title(key), *_cells(each.get(KERAS, {}), ERRORS[1:]), *_cells(each.get(TIMM, {}), ["logits"]))
        for key, each in found.items()
    ]
    return _with_limits(OTHER_LIMITS, rows)


def keras_rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns a row per network beside Keras with images of 224 pixels and more."""
    rows = [row for row in read(folder) if row["library"] == KERAS and row["pixels"] >= LARGE]
    return _with_limits(
        KERAS_LIMITS, [(_title(_key(row)), *_cells(row["errors"], ["logits"])) for row in rows]
    )


def merge(rows: Iterable[ParityRow], newer: Iterable[ParityRow]) -> list[ParityRow]:
    """Returns the rows with the errors of newer ones, in the tables' order."""
    merged: dict[tuple[str, Key], ParityRow] = {}
    for row in (*rows, *newer):
        key = row["library"], _key(row)
        older = merged[key]["errors"] if key in merged else {}
        merged[key] = {**row, "variant": key[1][1], "errors": {**older, **row["errors"]}}
    return sorted(merged.values(), key=_order)


def passed(xml: Path) -> list[ParityRow]:
    """Returns the errors of the tests that passed, from pytest's XML file."""
    try:
        cases = list(ElementTree.parse(xml).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        raise ConfigError(f"{xml} is not an XML file of pytest: pass --junitxml={xml} to pytest") from error
    return [
        json.loads(item.attrib["value"])
        for case in cases
        if case.find("failure") is None and case.find("error") is None
        for item in case.iter("property")
        if item.attrib["name"] == "parity"
    ]


def main(arguments: list[str]) -> None:
    """Adds the errors in pytest's XML files to results/parity.json."""
    folder = Path("results")
    rows = merge(read(folder), (row for xml in arguments for row in passed(Path(xml))))
    text = ",\n".join(json.dumps(row) for row in rows)
    atomic_write(folder / NUMBERS, f"[\n{text}\n]\n")


def _with_limits(limits: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [limits, *rows] if rows else []


def _key(row: ParityRow) -> Key:
    default = next(iter(models.entry(row["network"]).variants), None)
    return row["network"], None if row["variant"] == default else row["variant"], row["pixels"]


def _order(row: ParityRow) -> tuple[int, str, int, str]:
    """The order of the registry."""
    network, variant, pixels = _key(row)
    return list(models.REGISTRY).index(network), variant or "", pixels, row["library"]


def _title(key: Key) -> str:
    network, variant, pixels = key
    return ", ".join([models.entry(network).title, *([f"`{variant}`"] if variant else []), str(pixels)])


def _cells(errors: Mapping[str, float], names: Sequence[str]) -> list[str]:
    """Formats errors in two digits; "" if one was not measured, or there is no such array."""
    return [f"{errors[name]:.1e}".replace("e-0", "e-") if name in errors else "" for name in names]


if __name__ == "__main__":
    main(sys.argv[1:])
