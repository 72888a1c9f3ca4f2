"""docs/building_blocks.md and its table of the 51 concepts: numbers, figures and links are up to date."""

import ast
import functools
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxnets import models, reported
from studies.mlp_proof import picture
from studies.pages import building_blocks

REPOSITORY = Path(__file__).parents[4]
PAGE = REPOSITORY / "docs" / "building_blocks.md"
CONCEPTS = PAGE.with_name("building_blocks_concepts.md")
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)]+)\)")
ROW = re.compile(r"^\| (?P<name>.+?) `(?P<id>\w+/\w+)` \| (?P<code>.*?) \| (?P<test>.*?) \|", re.M)
NOT_BUILT = re.compile(r"not built yet \(`(?P<path>[^`]+)`\)")
NUMBERS = ("convolution", "pooling", "dropout", "softmax", "activations", "adam", "valley")


@functools.cache
def _symbols(path: Path) -> set[str]:
    """Returns the functions, classes, methods (as CLASS.METHOD) and constants that a file defines."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            functions = (inner for inner in node.body if isinstance(inner, ast.FunctionDef))
            found |= {f"{node.name}.{inner.name}" for inner in functions}
        if isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def _link_error(text: str, target: str) -> str | None:
    """Returns what is wrong with a link of the page, or None."""
    if target.startswith("#"):
        return None if f"# {target[1:].replace('-', ' ')}" in PAGE.read_text().lower() else target
    path = PAGE.parent / target
    if not path.exists():
        return f"{target} is not there"
    if path.suffix == ".py" and text.startswith("`") and text.strip("`") not in _symbols(path):
        return f"{target} has no {text}"
    return None


def _concepts() -> list[dict]:
    return reported.document("callbacks")["concepts"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NUMBERS)  # "training" is tested in test_network.py
def test_numbers_are_up_to_date(name: str) -> None:
    printed = building_blocks.blocks(PAGE.read_text())
    assert printed.keys() == building_blocks.numbers.BLOCKS.keys() == {*NUMBERS, "training"}
    assert printed[name] == building_blocks.numbers.BLOCKS[name](), f"run {building_blocks.__file__}"


@pytest.mark.usefixtures("x64")
def test_figures_are_up_to_date(tmp_path: Path) -> None:
    stored = json.loads((building_blocks.FOLDER / "numbers.json").read_text())
    computed = building_blocks.behind()
    assert jax.tree.structure(stored) == jax.tree.structure(computed)
    for before, now in zip(jax.tree.leaves(stored), jax.tree.leaves(computed), strict=True):
        assert now == pytest.approx(before, rel=1e-3, abs=1e-7)
    linked = {target for _, target in LINK.findall(PAGE.read_text()) if target.endswith(".png")}
    assert linked == {f"building_blocks/{name}.png" for name in building_blocks.pictures.PICTURES}
    assert {file.stem for file in building_blocks.FOLDER.glob("*.png")} == set(
        building_blocks.pictures.PICTURES
    )
    for name, (_, draw) in building_blocks.pictures.PICTURES.items():
        stored_file = building_blocks.FOLDER / f"{name}.png"
        with Image.open(stored_file) as image:
            assert image.info[picture.DIGEST] == building_blocks.digest(stored[name])
        assert stored_file.stat().st_size < 100_000
        picture.save(draw(computed[name]), tmp_path / stored_file.name, "")
        with Image.open(stored_file) as image, Image.open(tmp_path / stored_file.name) as drawn:
            assert drawn.size == image.size
            assert np.ptp(np.asarray(drawn.convert("L"))) > 100


def test_every_concept_is_listed_once_in_order() -> None:
    rows = [(found["name"], found["id"]) for found in ROW.finditer(CONCEPTS.read_text())]
    assert rows == [(concept["name"], concept["id"]) for concept in _concepts()]
    assert len(rows) == 51


def test_every_concept_links_code_and_test_or_is_not_built() -> None:
    page = CONCEPTS.read_text()
    built = 0
    for row in ROW.finditer(page):
        code, test = (LINK.findall(row[part]) for part in ("code", "test"))
        if NOT_BUILT.fullmatch(row["code"]):
            assert row["test"] == "none", row[0]
        else:
            built += 1
            assert code, row[0]
            assert all(target.startswith(("../jaxnets/", "../studies/")) for _, target in code), row[0]
            assert test, row[0]
            assert all(target.startswith("../tests/") for _, target in test), row[0]
    message = f"51 concepts: {built} have code and tests here, {51 - built} are not built yet."
    assert message in page, f"write in {CONCEPTS.name}: {message}"


def test_concepts_marked_not_built_do_not_exist() -> None:
    page = CONCEPTS.read_text()
    assert page.count("not built yet (") == len(NOT_BUILT.findall(page))
    for path in NOT_BUILT.findall(page):
        assert not (REPOSITORY / path).exists(), (
            f"{path} exists: in {CONCEPTS.name}, replace 'not built yet (`{path}`)' by a link to the code, "
            "and the 'none' beside it by a link to its test"
        )
    titles = {_alphanumeric(text) for name, entry in models.REGISTRY.items() for text in (name, entry.title)}
    for row in ROW.finditer(page):
        if NOT_BUILT.fullmatch(row["code"]):
            names = {_alphanumeric(part) for part in re.split(r"[()]", row["name"]) if part.strip()}
            assert not any(name in title for name in names for title in titles), (
                f"{row['name']} is in models.REGISTRY: in {CONCEPTS.name}, replace '{row['code']}' by "
                "a link to its file and the 'none' beside it by a link to its test"
            )


def _alphanumeric(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def test_links_and_symbols_exist() -> None:
    links = [link for page in (PAGE, CONCEPTS) for link in LINK.findall(page.read_text())]
    assert len(links) > 100
    assert [error for link in links if (error := _link_error(*link))] == []


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("`adam`", "../studies/by_hand/blocks/adams.py"),
        ("`adams`", "../studies/by_hand/blocks/adam.py"),
        ("`AdamState.nothing`", "../studies/by_hand/blocks/adam.py"),
        ("the list", "#no-such-section"),
    ],
)
def test_wrong_link_is_detected(text: str, target: str) -> None:
    assert _link_error(text, target)


def test_suspect_concepts_have_remarks() -> None:
    lines = CONCEPTS.read_text().splitlines()
    for concept in _concepts():
        if "suspect" in concept:
            (line,) = (line for line in lines if f"`{concept['id']}`" in line)
            assert len(line.split(" | ")[3]) > 10, line
