"""docs/building_blocks.md: numbers and pictures made again, 51 concepts counted, links followed."""

import ast
import functools
import json
import re
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxnets import config as config_lib
from jaxnets import models, reported
from studies.mlp_proof import picture
from studies.pages import building_blocks

REPOSITORY = Path(__file__).parents[4]
PAGE = REPOSITORY / "docs" / "building_blocks.md"
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)]+)\)")
ROW = re.compile(r"^\| (?P<name>.+?) `(?P<id>\w+/\w+)` \| (?P<code>.*?) \| (?P<test>.*?) \|", re.M)
NOT_BUILT = re.compile(r"not built yet \(`(?P<path>[^`]+)`\)")
NUMBERS = ("convolution", "pooling", "dropout", "softmax", "activations", "adam", "valley")


@pytest.fixture
def maker() -> ModuleType:
    return building_blocks


@functools.cache
def _symbols(path: Path) -> set[str]:
    """Functions, classes, methods and constants that a file defines, methods as CLASS.METHOD."""
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


def _problem(text: str, target: str) -> str | None:
    """What is wrong with a link from the page, or None."""
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
@pytest.mark.parametrize("name", NUMBERS)  # those of the training are compared in test_network.py
def test_its_numbers_are_those_of_the_code(maker: ModuleType, name: str) -> None:
    printed = maker.blocks(PAGE.read_text())
    assert printed.keys() == maker.numbers.BLOCKS.keys() == {*NUMBERS, "training"}
    assert printed[name] == maker.numbers.BLOCKS[name](), f"run {maker.__file__}"


@pytest.mark.usefixtures("x64")
def test_its_pictures_were_drawn_from_the_numbers_of_the_code(maker: ModuleType, tmp_path: Path) -> None:
    kept = json.loads((maker.FOLDER / "numbers.json").read_text())
    computed = maker.behind()
    assert jax.tree.structure(kept) == jax.tree.structure(computed)
    for before, now in zip(jax.tree.leaves(kept), jax.tree.leaves(computed), strict=True):
        assert now == pytest.approx(before, rel=1e-3, abs=1e-7)
    linked = {target for _, target in LINK.findall(PAGE.read_text()) if target.endswith(".png")}
    assert linked == {f"building_blocks/{name}.png" for name in maker.pictures.PICTURES}
    assert {file.stem for file in maker.FOLDER.glob("*.png")} == set(maker.pictures.PICTURES)
    for name, (_, draw) in maker.pictures.PICTURES.items():
        kept_file = maker.FOLDER / f"{name}.png"
        with Image.open(kept_file) as image:
            assert image.info[picture.DIGEST] == maker.digest(kept[name])
        assert kept_file.stat().st_size < 100_000
        picture.save(draw(computed[name]), tmp_path / kept_file.name, "")
        with Image.open(kept_file) as image, Image.open(tmp_path / kept_file.name) as drawn:
            assert drawn.size == image.size
            assert np.ptp(np.asarray(drawn.convert("L"))) > 100


def test_it_has_every_concept_once_in_the_order_of_the_list() -> None:
    rows = [(found["name"], found["id"]) for found in ROW.finditer(PAGE.read_text())]
    assert rows == [(concept["name"], concept["id"]) for concept in _concepts()]
    assert len(rows) == 51


def test_every_concept_has_code_and_test_or_is_not_built() -> None:
    page = PAGE.read_text()
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
    assert message in page, f"write in {PAGE.name}: {message}"


def test_what_is_not_built_is_not_there() -> None:
    page = PAGE.read_text()
    assert page.count("not built yet") == len(NOT_BUILT.findall(page)) + 1  # and the sentence above
    for path in NOT_BUILT.findall(page):
        assert not (REPOSITORY / path).exists(), (
            f"{path} exists: in {PAGE.name}, replace its 'not built yet (`{path}`)' by a link to the code, "
            "and the 'none' beside it by a link to its test"
        )
    titles = {_squeezed(text) for name, entry in models.REGISTRY.items() for text in (name, entry.title)}
    for row in ROW.finditer(page):
        if NOT_BUILT.fullmatch(row["code"]):
            names = {_squeezed(part) for part in re.split(r"[()]", row["name"]) if part.strip()}
            assert not any(name in title for name in names for title in titles), (
                f"{row['name']} is in models.REGISTRY: in {PAGE.name}, replace '{row['code']}' of its row by "
                "a link to its file and the 'none' beside it by a link to its test"
            )


def _squeezed(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def test_every_link_leads_to_what_it_names() -> None:
    links = LINK.findall(PAGE.read_text())
    assert len(links) > 100
    assert [problem for link in links if (problem := _problem(*link))] == []


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("`adam`", "../studies/by_hand/blocks/adams.py"),
        ("`adams`", "../studies/by_hand/blocks/adam.py"),
        ("`AdamState.nothing`", "../studies/by_hand/blocks/adam.py"),
        ("the list", "#the-52-concepts"),
    ],
)
def test_a_wrong_link_is_seen(text: str, target: str) -> None:
    assert _problem(text, target)


def test_what_the_report_gets_wrong_is_remarked_on() -> None:
    lines = PAGE.read_text().splitlines()
    for concept in _concepts():
        if "suspect" in concept:
            (line,) = (line for line in lines if f"`{concept['id']}`" in line)
            assert len(line.split(" | ")[3]) > 10, line


def test_resnet_101_is_a_resnet_of_other_stages() -> None:
    config = config_lib.default_config()
    config.model.name, config.model.num_classes = "resnet50", 1000
    config.model.stage_sizes = (3, 4, 23, 3)
    model = models.create(config.model)
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(functools.partial(model.init, jax.random.key(0)), x)
    assert models.count_parameters(shapes["params"]) == 44_549_160  # torchvision's resnet101
