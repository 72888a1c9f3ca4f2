"""docs/lenet_and_alexnet.md says what stands under results/."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    path = Path(__file__).with_name("make_lenet_page.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_results_make(maker: ModuleType, repository: Path) -> None:
    made = maker.page(repository / "results")
    assert made == (repository / "docs" / maker.PAGE).read_text(), "make_lenet_page.py makes it"
    assert (repository / "docs" / maker.PICTURE).is_file()


def test_runs_that_are_not_there_are_told(maker: ModuleType, tmp_path: Path) -> None:
    made = maker.page(tmp_path)
    assert maker.PLACEHOLDER.search(made) is None
    assert "| LeNet-5, report C | clean images | not run | 98.66 % |" in made
    assert "| none | not run |  | 44,426 | 281,640 |" in made
    assert "| learning_rate 0.004 | not run |  |" in made
    assert "| 0.001 | not run | not run | not run | not run |" in made
