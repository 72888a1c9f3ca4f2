"""The pages of docs/: their length, tables and links, the site's navigation, and what its pages load."""

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from PIL import Image

from jaxnets import config as config_lib
from jaxnets import errors
from studies.pages import config_fields, prose, site

REPOSITORY = Path(__file__).parents[3]
DOCS = REPOSITORY / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
MOST_WORDS, MOST_COLUMNS, MOST_ROWS = 1500, 6, 25


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_short(name: str) -> None:
    page = (DOCS / name).read_text()
    assert prose.words(page) <= MOST_WORDS
    for table in prose.tables(page):
        assert table.columns <= MOST_COLUMNS, f"line {table.line}: move the table to docs/tables/NAME.csv"
        assert table.rows <= MOST_ROWS, f"line {table.line}: move the table to docs/tables/NAME.csv"


@pytest.mark.parametrize("name", PAGES)
def test_links_are_not_broken(name: str) -> None:
    assert prose.broken_links(DOCS / name) == []


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "BUILD_NOTES.md"])
def test_links_of_the_repository_are_not_broken(name: str) -> None:
    assert prose.broken_links(REPOSITORY / name) == []


def test_every_page_is_in_the_navigation_once() -> None:
    listed = re.findall(r"^ +- .*: (\S+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == PAGES


def test_the_config_table_is_up_to_date_and_complete() -> None:
    page = config_fields.PAGE.read_text()
    assert page == config_fields.page(), "run python -m studies.pages.config_fields"
    assert re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE) == list(config_lib.FIELDS)


def test_every_error_is_listed_with_its_exit_code() -> None:
    page = (DOCS / "exit_codes.md").read_text()
    for kind in errors.JaxnetsError.__subclasses__():
        code = "129, 130, 143" if kind is errors.InterruptedRunError else str(kind.exit_code)
        assert f"| {code} | `{kind.__name__}` |" in page


def test_the_words_of_prose_are_counted() -> None:
    code, table = "```\nnot this\n```\n", "| nor | that |\n| --- | --- |\n"
    page = f"# A head\n\nOne [two](three.md) `four`, 5 - six.\n\n{code}{table}"
    assert prose.words(page) == 7


def test_tables_and_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text(
        "# Some head\n\n| a | b |\n| --- | ---: |\n| 1 | 2 |\n\n[x](#some-head) [y](#no) [z](b.md)\n"
    )
    assert prose.tables(page.read_text()) == [prose.Table(line=4, columns=2, rows=1)]
    assert prose.broken_links(page) == ["#no", "b.md"]


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("a.html", '<a href="https://example.org">a link</a> <link rel="canonical" href="https://a.b">', 0),
        ("a.html", '<script async src="https://example.org/a.js"></script>', 1),
        ("a.html", "<img alt='' src=//example.org/a.png><link rel=stylesheet href='https://a.b/c.css'>", 2),
        ("a.html", '<div class="mermaid">graph</div>', 1),
        ("a.css", "@import 'https://example.org/a.css'; a { background: url(https://example.org/a.png) }", 2),
        ("a.css", "a { background: url(a.png) } /* see https://example.org */", 0),
    ],
)
def test_requests_to_other_hosts_are_found(tmp_path: Path, file: str, text: str, found: int) -> None:
    (tmp_path / file).write_text(text)
    assert len(site.external_requests(tmp_path)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [("<math><mi>a</mi></math> costs 3 $", 0), (r"<p>$\delta$</p>", 2), ("<math><mi>&amp;</mi></math>", 1)],
)
def test_formulas_that_are_not_converted_are_found(tmp_path: Path, text: str, found: int) -> None:
    (tmp_path / "a.html").write_text(text)
    assert len(site.unconverted_formulas(tmp_path)) == found


def test_pages_do_not_call_reported_numbers_published() -> None:
    for name in PAGES:
        text = re.sub(r"unpublished|`published`", "", (DOCS / name).read_text())
        assert "published" not in text or name == "leakage.md", name


def test_files_that_pages_name_exist() -> None:
    """Examples of new files, such as small_cnn.py and photos.py, do not."""
    new = {"small_cnn.py", "photos.py", "NAME.py", "xception.py", "vgg.py", "mobilenet.py", "efficientnet.py"}
    new |= {"nasnet.py", "transformer.py", "vision_transformer.py"}
    named = re.compile(
        r"\b(?:jaxnets|tests|studies|configs|scripts|examples|benchmarks)/[\w./]+\.(?:py|md|json)\b"
    )
    for name in PAGES:
        for path in named.findall((DOCS / name).read_text()):
            assert (REPOSITORY / path).exists() or Path(path).name in new, f"{name}: {path}"


def _python(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)


def test_python_of_the_pages_is_valid() -> None:
    codes = [code for name in PAGES for code in _python(name)]
    assert len(codes) >= 9
    for code in codes:
        ast.parse(textwrap.dedent(code if not code.startswith('    "') else f"({{\n{code}}})"))


def test_the_network_of_the_guide_has_features_and_logits() -> None:
    names: dict[str, Any] = {}
    exec(_python("adding_a_network.md")[0], names)
    model = names["SmallCNN"](num_classes=3)
    shapes = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), jnp.zeros((2, 32, 32, 3))))
    assert shapes[0].shape == (2, 3)
    assert names["ENTRY"].factory is names["SmallCNN"]


def test_the_data_source_of_the_guide_reads_its_table(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 10)).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text("file,label\na.png,cat\nb.png,dog\n")
    names: dict[str, Any] = {}
    exec(_python("adding_a_data_set.md")[0], names)
    source = names["Photos"](tmp_path)
    assert (source.classes, source[1]["label"]) == (("cat", "dog"), 1)
    assert source[0]["image"].shape == (10, 20, 3)
