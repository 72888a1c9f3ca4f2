"""Measures the pages of docs/: words of prose, columns and rows of tables, links."""

import re
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^( *)```.*?^\1```[^\n]*$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->|<[^>\n]+>", re.DOTALL)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
SEPARATOR = re.compile(r"^\|(?: *:?-+:? *\|)+$")


class Table(NamedTuple):
    """The line below a table's head, counted from 1, and the table's size without the head."""

    line: int
    columns: int
    rows: int


def words(page: str) -> int:
    """Counts the words of a page outside of code blocks, tables, comments and the targets of links."""
    text = LINK.sub(r"\g<text>", COMMENT.sub(" ", FENCE.sub(" ", page)))
    lines = (line for line in text.splitlines() if not line.lstrip().startswith(("|", ":::")))
    return sum(any(letter.isalnum() for letter in word) for line in lines for word in line.split())


def tables(page: str) -> list[Table]:
    """Returns the tables of a page."""
    lines, found = page.splitlines(), []
    for number, line in enumerate(lines):
        if SEPARATOR.match(line):
            rows = number + 1
            while rows < len(lines) and lines[rows].startswith("|"):
                rows += 1
            found.append(Table(number + 1, line.count("|") - 1, rows - number - 1))
    return found


def anchor(heading: str) -> str:
    """Returns the id that Python-Markdown gives a heading."""
    text = re.sub(r"[^\w\s-]", "", LINK.sub(r"\g<text>", heading).replace("`", "")).strip().lower()
    return re.sub(r"[-\s]+", "-", text)


def anchors(page: str) -> set[str]:
    """Returns the ids of a page's headings."""
    text = FENCE.sub("", page)
    return {anchor(found) for found in re.findall(r"^#+ +(.+?)(?: *\{.*\})?$", text, re.MULTILINE)}


def broken_links(path: Path) -> list[str]:
    """Returns the relative links of a page whose file or heading does not exist."""
    broken = []
    for found in LINK.finditer(FENCE.sub("", path.read_text())):
        target, _, heading = found["target"].partition("#")
        if target.startswith(("http://", "https://")):
            continue
        file = path.parent / target if target else path
        if not file.exists() or (
            heading and file.suffix == ".md" and heading not in anchors(file.read_text())
        ):
            broken.append(found["target"])
    return broken
