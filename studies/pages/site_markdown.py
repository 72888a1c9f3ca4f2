"""Extends mkdocs: formulas become MathML, and links out of docs/ become files of the site or plain text."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

CODE = re.compile(r"(^ *```(?!math).*?^ *```[^\n]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
DISPLAYED = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"\$([^$\n]+)\$")
OUTSIDE = re.compile(r"(!?)\[([^\]]*)\]\((\.\./[^)\s]+)\)")
MATRIX = re.compile(r"<mo>&#x00028;</mo><mtable>(.*?</mtable>)<mo>&#x00029;</mo>")
SIGN = re.compile(r"(<mo[^>]*>(?:&#x00028;|&#x0003D;|\[)</mo>)<mo>(?=&#x02212;)")
CELL = re.compile(r"<td[^>]*>.*?</td>|<h\d [^>]*doc-heading.*?</h\d>", re.DOTALL)
FLAG = re.compile(r"<code>(?=--\S{1,36}</code>)")
NAME = re.compile(r"(?<=>)[^<>\s]{12,}(?=</(?:code|span)>)")
BREAK = re.compile(r"([_/.])(?=\w)")
INCLUDED = (".png", ".csv", ".json", ".py")
"""Kinds of linked files outside of docs/ that are copied into the site."""


def on_files(files: Files, config: Any) -> Files:
    """Adds the files outside of docs/ to which pages link."""
    root = Path(config.docs_dir).parent
    for page in files.documentation_pages():
        for _, _, target in OUTSIDE.findall(page.content_string):
            source, place = _source_and_place(page.src_uri, target, root)
            outside = not source.is_relative_to(config.docs_dir)
            if outside and source.suffix in INCLUDED and files.get_file_from_path(place) is None:
                files.append(File.generated(config, place, abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **others: Any) -> str:
    """Converts the formulas and links of a page."""
    del others
    root = Path(config.docs_dir).parent
    markdown = DISPLAYED.sub(lambda found: _displayed(found[1]), markdown)

    def link(found: re.Match[str]) -> str:
        source, place = _source_and_place(page.file.src_uri, found[3], root)
        if source.is_relative_to(config.docs_dir):
            return found[0]
        depth = "../" * page.file.src_uri.count("/")
        return f"{found[1]}[{found[2]}]({depth}{place})" if source.suffix in INCLUDED else found[2]

    # A link may have code as its text: links first, and formulas only outside of code.
    markdown = OUTSIDE.sub(link, markdown)
    return _outside_code(
        markdown, lambda text: INLINE.sub(lambda found: f"<span>{_mathml(found[1])}</span>", text)
    )


def on_page_content(html: str, **others: Any) -> str:
    """Lets long names in tables and headings break after an underscore, slash or dot, and flags nowhere."""
    del others
    html = FLAG.sub('<code class="flag">', html)
    return CELL.sub(lambda cell: NAME.sub(lambda name: BREAK.sub(r"\1<wbr>", name[0]), cell[0]), html)


def _source_and_place(page: str, target: str, root: Path) -> tuple[Path, str]:
    """Returns the file of a link, and its path in the site; source code becomes text that browsers show."""
    source = (root / "docs" / page).parent.joinpath(target).resolve()
    place = source.relative_to(root.resolve()).as_posix()
    return source, f"files/{place}.txt" if source.suffix == ".py" else f"files/{place}"


def _displayed(formula: str) -> str:
    return f'<div class="formula">{_mathml(" ".join(formula.split()), display="block")}</div>\n'


def _mathml(formula: str, **options: Any) -> str:
    """Returns MathML that looks right without a font for mathematics, whose brackets would stretch."""
    text = MATRIX.sub(r'<mtable class="matrix">\1', convert(formula, **options))
    return SIGN.sub(r'\1<mo form="prefix">', text)


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    parts = CODE.split(markdown)
    return "".join(part if number % 2 else change(part) for number, part in enumerate(parts))
