"""README's picture: the chart, the photograph of the page and their composition."""

from pathlib import Path

import made_results
import pytest
from PIL import Image

from jaxnets.errors import ConfigError, MachineError
from studies.pages import readme_picture


def test_the_chart_has_the_wanted_size(tmp_path: Path) -> None:
    for split, fraction in (("random", 1.0), ("grouped", 0.0)):
        changes = {"split": split, "overrides": [f"data.split={split!r}"], "leakage": {"test": fraction}}
        made_results.write(tmp_path / split, entry="A/resnet50", **changes)
    chart = readme_picture.chart(tmp_path, (300, 200))
    assert chart.size == (300, 200)
    assert len(chart.getcolors(60_000)) > 10


def test_the_page_is_framed_beside_the_chart() -> None:
    gap = readme_picture.GAP
    whole = readme_picture.compose(Image.new("RGB", (30, 90), "red"), Image.new("RGB", (50, 80), "blue"))
    assert whole.size == (80 + 4 * gap, 90 + 2 * gap)
    assert whole.getpixel((gap, gap)) == (255, 0, 0)
    assert whole.getpixel((30 + 3 * gap, gap)) == (0, 0, 255)


def test_the_margin_below_the_page_is_removed() -> None:
    picture = Image.new("RGB", (40, 400), "white")
    picture.putpixel((5, 99), (0, 0, 0))
    assert readme_picture._without_margin(picture).size == (40, 100 + readme_picture.GAP)


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "index.html"
    with pytest.raises(ConfigError, match=r"index.html not found: python scripts/evaluate.py"):
        readme_picture.main(page)
    page.write_text("<body><h1>A page</h1></body>")
    monkeypatch.setattr(readme_picture, "CHROMIUM", "no-such-program")
    with pytest.raises(MachineError, match="no-such-program takes the photograph"):
        readme_picture.screenshot(page)
