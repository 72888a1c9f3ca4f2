"""What the pages made of results share: a table, times and memory as text."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def milliseconds(seconds: float) -> str:
    """Three digits, without an exponent."""
    return f"{1e3 * seconds:,.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}"


def format_peaks(row: Mapping[str, Any]) -> str:
    """A row's peaks of memory, GiB, ours and the opponent's; nothing where they were not measured.

    Of the processes, or on a card of what it holds.
    """
    memory = row.get("peak_memory") or {}
    sides = [memory.get("ours"), memory.get(row.get("opponent"))]
    message = [f"{side / 2**30:.2f}" for side in sides if side is not None]
    return " / ".join(message) if len(message) == len(sides) else ""
