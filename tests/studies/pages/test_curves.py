"""Curves of reports and runs, and stale pictures."""

from pathlib import Path

import pytest

from jaxnets.errors import ConfigError
from studies.pages import curves


def test_curves_of_a_report() -> None:
    adam = curves.reported_curves("C/alexnet")
    assert sorted(adam) == ["test accuracy", "train accuracy", "train loss"]
    assert adam["train loss"][0] == (1, 1.833)  # printed as a sum over 782 batches
    assert adam["test accuracy"][-1] == (10, pytest.approx(0.6275))
    windows = curves.reported_curves("E/alexnet")["train loss"]
    assert len(windows) == 70
    assert windows[0] == (pytest.approx(100 / 782), 2.303)
    assert windows[-1] == (pytest.approx(9 + 700 / 782), 0.591)
    assert curves.reported_curves("A/mlp_tanh") == {}


def line(step: int, split: str, **values: float) -> dict:
    return {"step": step, "epoch": step / 10, "split": split, "values": values}


def test_training_lines_are_averaged_by_epoch() -> None:
    lines = [
        line(6, "train", loss=1.0, accuracy=0.5),
        line(10, "train", loss=2.0, accuracy=1.0),
        line(10, "validation", loss=3.0),
        line(20, "train", loss=4.0, accuracy=0.0),
    ]
    found = curves.run_curves(lines, by_epoch=True)
    assert found["train loss"] == [(1, pytest.approx(1.4)), (2, 4.0)]
    assert found["train accuracy"] == [(1, pytest.approx(0.7)), (2, 0.0)]
    assert found["validation loss"] == [(1.0, 3.0)]
    windows = curves.run_curves(lines, by_epoch=False)
    assert windows["train loss"] == [(0.6, 1.0), (1.0, 2.0), (2.0, 4.0)]


def test_a_picture_contains_the_digest_of_its_data(tmp_path: Path) -> None:
    path = tmp_path / "curves" / "C-lenet5.png"
    data = curves.drawn_data("C/lenet5", [tmp_path / "no-metrics"])
    assert not curves.is_current(path, data)
    curves.draw(path, data)
    assert curves.is_current(path, data)
    assert path.stat().st_size < 20_000
    assert not curves.is_current(path, {**data, "runs": {}})


def test_without_matplotlib_the_error_has_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"-e '\.\[plots\]'"):
        curves.draw(tmp_path / "a.png", {"runs": {}, "published": {}, "entry": "C/lenet5"})
