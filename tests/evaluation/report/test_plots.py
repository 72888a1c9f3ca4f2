"""Line charts: single points and logarithmic axes."""

import numpy as np
import pytest

from jaxnets.evaluation.report.page import _curve
from jaxnets.evaluation.report.plots import BOTTOM, HEIGHT, TOP, Line, line_chart


def _chart(*values: float, **options: bool):
    line = Line("train", np.column_stack([np.arange(1.0, len(values) + 1), values]))
    return line_chart("Loss", [line], x_label="epoch", y_label="loss", **options)


@pytest.mark.parametrize(("values", "dots"), [((0.7,), True), ((0.7,) * 30, True), ((0.7,) * 31, False)])
def test_few_points_are_drawn_as_dots(values: tuple[float, ...], dots: bool) -> None:
    chart = _chart(*values)
    assert chart is not None
    assert [line.dots for line in chart.lines] == [dots]


def test_large_ranges_have_a_logarithmic_axis() -> None:
    chart = _chart(1e3, 1.0, 1e-1)
    assert chart is not None
    assert chart.y_label == "loss (log scale)"
    assert [text for _, text in chart.y_ticks] == ["0.1", "1", "10", "100", "1000"]
    ((_, top), (_, middle), (_, bottom)) = chart.lines[0].points
    assert (top, bottom) == (pytest.approx(TOP), pytest.approx(HEIGHT - BOTTOM))
    assert middle == pytest.approx(bottom - (bottom - top) / 4)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((1.83, 0.0435), "0.02 0.05 0.1 0.2 0.5 1 2"),
        ((1.0, 0.1), "0.1 0.2 0.5 1"),
        ((2.3, 0.15), "0.1 0.2 0.5 1 2 5"),
    ],
)
def test_a_decade_has_ticks_between_powers_of_ten(values: tuple[float, ...], ticks: str) -> None:
    chart = _chart(*values)
    assert chart is not None
    assert chart.y_label == "loss (log scale)"
    assert [text for _, text in chart.y_ticks] == ticks.split()


def test_many_decades_have_few_ticks() -> None:
    chart = _chart(4e7, 3e-12)
    assert chart is not None
    assert len(chart.y_ticks) <= 9
    positions = [position for position, _ in chart.y_ticks]
    assert min(positions) == pytest.approx(TOP)
    assert max(positions) == pytest.approx(HEIGHT - BOTTOM)
    for _, y in chart.lines[0].points:
        assert TOP <= y <= HEIGHT - BOTTOM


@pytest.mark.parametrize("values", [(2.0, 0.5), (5.0, 0.0), (-1.0, 300.0)])
def test_other_ranges_have_a_linear_axis(values: tuple[float, ...]) -> None:
    chart = _chart(*values)
    assert chart is not None
    assert chart.y_label == "loss"


def test_percentages_have_a_linear_axis() -> None:
    chart = _chart(0.001, 0.9, percent=True)
    assert chart is not None
    assert chart.y_label == "loss"


def test_diverged_run_has_a_logarithmic_axis() -> None:
    lines = [
        {"epoch": 1.0, "split": split, "values": {"loss": loss, "accuracy": 0.2}}
        for split, loss in (("train", 30.0), ("validation", 4_205_885.0))
    ]
    loss, accuracy = _curve(lines, "loss"), _curve(lines, "accuracy", in_percent=True)
    assert loss.y_label == "loss (log scale)"
    assert accuracy.y_label == "accuracy"
    assert all(line.dots for chart in (loss, accuracy) for line in chart.lines)
