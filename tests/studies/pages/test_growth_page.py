"""The growth section: table, summary, picture."""

from pathlib import Path
from typing import Any

from studies.pages import curves, growth_page, performance_page

GROWTH = {
    "name": "growth/lenet5/28/64",
    "point": {"network": "lenet5", "image_size": 28, "batch_size": 64, "processes": 1, "devices": 2},
    "implementation": "C++ kernels",
    "seconds_a_step": 0.0025,
    "ours": 25_600.0,
    "peak_memory": {"ours": 3 * 2**29},
}


def row(seconds: float, gib: int, **point: int) -> dict[str, Any]:
    there = {**GROWTH["point"], "devices": 1, **point}
    return {
        **GROWTH,
        "point": there,
        "seconds_a_step": seconds,
        "ours": there["batch_size"] / seconds,
        "peak_memory": {"ours": gib * 2**30},
    }


ROWS = [row(0.002, 1), row(0.016, 3, batch_size=256), row(0.005, 2, image_size=56), row(0.004, 1, devices=2)]


def test_a_row_is_in_one_section_only() -> None:
    found = performance_page.sections({"2 cores": [GROWTH], "another": []})
    line = "| LeNet-5, 28 px, batch 64, C++ kernels | 1 x 2 | 2.5 | 25,600 | 1.50 |"
    assert line in found.pop("growth")
    assert set(found.values()) == {performance_page.NOT_MEASURED}


def test_the_summary() -> None:
    message = growth_page.section(ROWS)
    assert message.endswith(
        "- LeNet-5: with 1 x 2 processes x devices on the same cores, images/s are 0.50 times "
        "those of one device."
    )


def test_the_picture_shows_the_same_numbers(tmp_path: Path) -> None:
    data = growth_page.drawn_data(ROWS)
    assert data["series"]["batch_size"] == {"lenet5": [[64, 2.0, 1.0], [256, 16.0, 3.0]]}
    assert data["series"]["image_size"] == {"lenet5": [[28, 2.0, 1.0], [56, 5.0, 2.0]]}
    assert data["spreads"] == [["1 x 1", 32_000.0], ["1 x 2", 16_000.0]]
    path = tmp_path / "growth.png"
    growth_page.draw(path, data)
    assert curves.is_current(path, data)
    assert not curves.is_current(path, growth_page.drawn_data(ROWS[:3]))


def test_without_measurements_nothing_is_drawn() -> None:
    assert growth_page.section([]) == ""
    assert growth_page.drawn_data([]) == {"series": {}, "spreads": []}
