"""Formatting shared by the generated pages: Markdown tables and CSV files."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxnets.io import csv_table

NOT_MEASURED = "Not measured yet."
"""Text in place of a table without rows."""
NOT_RUN = "not run"
"""Text in place of a value whose run is missing."""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    return "\n".join(table_row(*cells) for cells in (heads, ["---"] * len(heads), *rows))


def table_or_empty(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table; "" without rows."""
    return table(heads, rows) if rows else ""


def csv_text(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a CSV file; floats have at most four decimals, None is an empty cell."""
    rounded = ([round(cell, 4) if isinstance(cell, float) else cell for cell in row] for row in rows)
    return csv_table([heads, *rounded])


def table_row(*cells: str) -> str:
    """Returns a row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def milliseconds(seconds: float) -> str:
    """Formats a duration in milliseconds with three digits, without an exponent."""
    return f"{1e3 * seconds:,.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}"


def peak_memory(row: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Returns the peak bytes of jaxnets and of eager PyTorch, or of the baseline where that is missing."""
    memory = row.get("peak_memory") or {}
    return memory.get("ours"), memory.get(row.get("baseline_eager") or row.get("baseline"))


def format_peaks(row: Mapping[str, Any]) -> str:
    """Formats the peak memory of jaxnets and of the baseline in GiB; "" if it was not measured."""
    peaks = peak_memory(row)
    texts = [f"{peak / 2**30:.2f}" for peak in peaks if peak is not None]
    return " / ".join(texts) if len(texts) == len(peaks) else ""
