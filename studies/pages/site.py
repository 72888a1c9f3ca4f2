"""Builds docs/ into site/, strictly; its pages load nothing from elsewhere, and formulas are MathML.

python -m studies.pages.site
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from jaxnets.errors import CheckFailedError

REPOSITORY = Path(__file__).parents[2]
SITE = REPOSITORY / "site"
REQUESTS = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=["']?(?:https?:)?//[^>]*>"""
    r"""|<link\b(?![^>]*\brel=["']?canonical)[^>]*\bhref=["']?(?:https?:)?//[^>]*>"""
    r"""|<\w+\b[^>]*\bclass=["']?mermaid\b[^>]*>"""  # the theme loads its script from elsewhere
    r"""|@import\s+["']?(?:url\()?["']?(?:https?:)?//[^;]*|url\(["']?(?:https?:)?//[^)]*\)""",
    re.IGNORECASE,
)
"""What a browser loads by itself from another host; ordinary links are not."""


LATEX = re.compile(r"\\(?:begin|frac|sum|delta|top|odot|qquad|hat|tanh)\b|<p>\$|<mi>&amp;")
"""LaTeX that was not converted to MathML."""


def unconverted_formulas(folder: Path) -> list[str]:
    """Returns the LaTeX in HTML files."""
    files = sorted(folder.rglob("*.html"))
    return [
        f"{path.relative_to(folder)}: {found}" for path in files for found in LATEX.findall(path.read_text())
    ]


def external_requests(folder: Path) -> list[str]:
    """Returns the tags and rules of HTML and CSS files that load something from another host."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".html", ".css", ".svg"))
    return [
        f"{path.relative_to(folder)}: {found}"
        for path in files
        for found in REQUESTS.findall(path.read_text())
    ]


def main() -> None:
    """Builds and checks the site."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)
    if found := external_requests(SITE):
        raise CheckFailedError("pages load files from other hosts:\n" + "\n".join(found))
    if found := unconverted_formulas(SITE):
        raise CheckFailedError("formulas are not MathML:\n" + "\n".join(found))
    print(f"{len(list(SITE.rglob('*.html')))} pages in {SITE}")


if __name__ == "__main__":
    main()
