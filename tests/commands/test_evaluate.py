"""The confusion table of `evaluate`, and the paired comparison of two runs."""

import dataclasses
from pathlib import Path

import made_results
import numpy as np
import pytest

from jaxnets.commands import evaluate
from jaxnets.commands.evaluate import compare_runs
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.evaluation.predictions import ClassScores, Predictions, predictions_name
from jaxnets.evaluation.statistics import compare_paired

EXAMPLES = 200
MEASURED = {"interval": (0.5, 0.9), "interval_method": "wilson"}


def make_predictions(accuracy: float, seed: int, *, group_ids: bool = True) -> Predictions:
    generator = np.random.default_rng(seed)
    label = np.arange(EXAMPLES) % 2
    predicted = np.where(generator.random(EXAMPLES) < accuracy, label, 1 - label)
    return Predictions(
        index=np.arange(EXAMPLES),
        label=label.astype(np.int32),
        probabilities=np.eye(2, dtype=np.float32)[predicted],
        files=np.array([f"{number}.png" for number in range(EXAMPLES)]),
        group=np.arange(EXAMPLES) // 4 if group_ids else np.full(EXAMPLES, -1),
    )


@pytest.fixture(autouse=True)
def run_directories(tmp_path: Path) -> None:
    """Makes two run directories, `a` and `b`, without predictions."""
    for name in ("a", "b"):
        config = made_results.config_json(made_results.make_result())
        made_results.write_files(tmp_path / name, {"config.json": config})


def test_compare_runs_resamples_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    better, worse = make_predictions(0.95, 0), make_predictions(0.8, 1, group_ids=False)
    made_results.write_predictions(tmp_path / "a", better)
    made_results.write_predictions(tmp_path / "b", worse)
    found = compare_runs(tmp_path / "a", tmp_path / "b" / predictions_name())
    assert found == compare_paired(better.correct, worse.correct, better.group)
    message = capsys.readouterr().out
    assert message.count("\n") == 1
    assert message.startswith(f"difference  {100 * found.difference:+.2f} points [")
    assert f"p = {found.permutation_p:.2g} (permutation test)" in message
    assert message.endswith(", 50 groups\n")
    (tmp_path / "b" / predictions_name()).rename(tmp_path / "alone.npz")
    monkeypatch.chdir(tmp_path)
    assert compare_runs(Path("a"), Path("alone.npz")) == found
    Path("alone.npz").rename(tmp_path / "b" / predictions_name())
    reverse = compare_runs(tmp_path / "b", tmp_path / "a")
    assert reverse.difference == -found.difference
    compare_runs(tmp_path / "b", tmp_path / "b")
    assert "p = 1 (permutation test)" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("field", ["index", "label", "files"])
def test_compare_runs_with_different_test_examples_raises(tmp_path: Path, field: str) -> None:
    original = make_predictions(0.9, 0)
    reversed_field = dataclasses.replace(original, **{field: getattr(original, field)[::-1]})
    made_results.write_predictions(tmp_path / "a", original)
    made_results.write_predictions(tmp_path / "b", reversed_field)
    with pytest.raises(ConfigError, match="not tested on the same test examples"):
        compare_runs(tmp_path / "a", tmp_path / "b")
    with pytest.raises(CheckpointError, match="is missing"):
        compare_runs(tmp_path / "a", tmp_path / "b", part="validation")


@pytest.mark.parametrize("fits", [True, False])
def test_control_characters_in_class_names_are_escaped(fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fits:
        monkeypatch.setattr(evaluate, "MAX_WIDTH", 10)
    names = ("\x1b[2Ja\nb", "c\x07")
    scores = ClassScores(loss=0.5, examples=4, accuracy=0.75, correct=3, confusion=np.array([[2, 0], [1, 1]]))
    table = evaluate._format(scores, names, MEASURED)
    assert not {"\x1b", "\x07"} & set(table)
    assert r"\x1b[2Ja\nb" in table
    assert len(table.splitlines()) == 6
    assert ("lowest of 2" in table) is not fits
