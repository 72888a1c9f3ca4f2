"""cross_validate: the runs of its sweep, the pooled report, the final network, refusals and interruption."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxnets
from jaxnets.commands import model_card
from jaxnets.commands.cross_validate import Options, cross_validate, make_rows
from jaxnets.errors import CheckpointError, ConfigError, DataError
from jaxnets.evaluation.predictions import load_predictions, predictions_name
from jaxnets.experiment.restore import read_weights_or_run
from jaxnets.experiment.run_directory import read_result

FOLDS, IMAGES = 3, 60


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    return Options(
        workdir=str(tmp_path_factory.mktemp("cross_validation")),
        folds=FOLDS,
        final=True,
        command="the command",
    )


@pytest.fixture(scope="module")
def finished(options: Options, smoke_config: str, smoke_overrides: dict[str, Any]) -> Path:
    """The folder of a cross-validation whose runs have finished, without its report."""
    directory = Path(str(options.workdir))
    for row in make_rows(smoke_config, smoke_overrides, options):
        jaxnets.train(smoke_config, dict(row.overrides), workdir=directory / row.name)
    return directory


def _names(spec: str, overrides: Mapping[str, Any], **changes: Any) -> list[str]:
    return [row.name for row in make_rows(spec, overrides, Options(**changes))]


def test_the_runs_of_the_sweep(smoke_config: str, smoke_overrides: dict[str, Any]) -> None:
    assert _names(smoke_config, smoke_overrides, folds=3, seeds=2, final=True) == [
        *("fold0-s0", "fold1-s0", "fold2-s0", "fold0-s1", "fold1-s1", "fold2-s1", "final-s0")
    ]
    assert _names(smoke_config, {**smoke_overrides, "seed": 7}, folds=3)[0] == "fold0-s7"
    rows = make_rows(smoke_config, smoke_overrides, Options(folds=3, seeds=2))
    assert {row.config.data.split_seed for row in rows} == {0}  # all seeds have the same folds


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.fold": 1}, "--config.data.fold is set by --folds"),
        ({"data.fractions": (0.8, 0.1, 0.1)}, "data.fractions=.* is not used"),
        ({"early_stopping.patience": 2}, "--final trains on all images, without validation: "),
    ],
)
def test_fields_that_do_not_fit_raise(
    smoke_config: str, smoke_overrides: dict[str, Any], overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_rows(smoke_config, {**smoke_overrides, **overrides}, Options(final=True))


def test_a_class_with_too_few_images_raises_before_training(
    smoke_config: str, smoke_overrides: dict[str, Any], tmp_path: Path
) -> None:
    few = {**smoke_overrides, "data.num_examples": 30}
    with pytest.raises(DataError, match="has 10 groups, but each of the 11 folds needs one"):
        cross_validate(smoke_config, few, Options(workdir=str(tmp_path / "new"), folds=11))
    assert not (tmp_path / "new").exists()


def test_the_runs_are_pooled(
    finished: Path, options: Options, smoke_config: str, smoke_overrides: dict[str, Any]
) -> None:
    result = cross_validate(smoke_config, smoke_overrides, options)
    assert result is not None
    assert result == read_result(finished)
    runs = [read_result(finished / f"fold{fold}-s0") for fold in range(FOLDS)]
    assert result["test_examples"] == IMAGES
    assert result["test_accuracy"] == pytest.approx(np.mean([run["test_accuracy"] for run in runs if run]))
    stored = load_predictions(finished / predictions_name())
    np.testing.assert_array_equal(stored.index, np.arange(IMAGES))
    figures = json.loads((finished / "report" / "metrics.json").read_text())
    assert figures["accuracy"] == result["test_accuracy"]
    page = (finished / "report" / "index.html").read_text()
    assert "3-fold cross-validation" in page
    assert "fold2-s0" in page
    assert "the command" in page

    before = (finished / "report" / "index.html").stat().st_mtime_ns
    assert cross_validate(smoke_config, smoke_overrides, options) == result
    assert (finished / "report" / "index.html").stat().st_mtime_ns == before


def test_the_final_network_has_the_accuracy_of_the_cross_validation(
    finished: Path, options: Options, smoke_config: str, smoke_overrides: dict[str, Any]
) -> None:
    pooled = cross_validate(smoke_config, smoke_overrides, options)
    final = read_result(finished / "final-s0")
    assert final is not None
    assert pooled is not None
    split = (finished / "final-s0" / "split.csv").read_text().splitlines()[1:]
    assert [line.split(",")[3] for line in split] == ["train"] * IMAGES
    assert (final["test_accuracy"], final["temperature"]) == (pooled["test_accuracy"], pooled["temperature"])
    assert final["cross_validation"] == pooled["cross_validation"]
    predictor = jaxnets.load(finished / "final-s0")
    assert predictor.temperature == pooled["temperature"]
    for missing in ({"coverage": 0.9}, {"ood": True}):
        with pytest.raises(DataError, match=r"final-s0 was trained on all images: use the .*fold0-s0"):
            jaxnets.load(finished / "final-s0", **missing)
    weights = read_weights_or_run(finished / "final-s0")
    assert weights.preprocessing is not None
    described = model_card.describe(weights, weights.preprocessing, final, has_logits=True)
    card = model_card.to_markdown(described, loading="stablehlo")
    assert "| accuracy in 3-fold cross-validation | " in card
    assert "It was trained on all images. Accuracy and temperature are those of 3 networks" in card


def test_a_missing_run_is_left_to_other_machines(
    finished: Path,
    options: Options,
    smoke_config: str,
    smoke_overrides: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "fold1-s0")
    others = Options(workdir=str(copy), folds=FOLDS, final=True, shard="1/2")  # fold 0 and fold 2
    assert cross_validate(smoke_config, smoke_overrides, others) is None
    assert "remaining fold1-s0; the command that finishes last writes" in capsys.readouterr().out


def test_another_config_or_missing_predictions_raise(
    finished: Path, options: Options, smoke_config: str, smoke_overrides: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"fold0-s0 holds a run with another config \(data.folds: 3 -> 4\)"):
        cross_validate(smoke_config, smoke_overrides, Options(workdir=str(finished), folds=4))
    assert not (finished / "fold3-s0").exists()
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "fold1-s0" / predictions_name()).unlink()
    with pytest.raises(CheckpointError, match=r"fold1-s0/predictions/test.npz is missing"):
        cross_validate(smoke_config, smoke_overrides, Options(workdir=str(copy), folds=FOLDS))


@pytest.mark.slow
def test_an_interrupted_cross_validation_resumes(repository: Path, tmp_path: Path) -> None:
    """The fast counterparts are above, and in tests/studies/test_reproduce.py."""
    command = [sys.executable, str(repository / "scripts" / "cross_validate.py"), "--nokernels"]
    command += [f"--config={repository / 'configs' / 'lung_resnet.py'}:smoke", "--folds=3"]
    command += [f"--workdir={tmp_path / 'runs'}", f"--config.data.root={tmp_path}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    limit = time.monotonic() + 120
    while not (tmp_path / "runs" / "fold1-s0" / "config.json").exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert "run the same command to resume" in output
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "fold0-s0  is up to date" in again.stdout
    assert (tmp_path / "runs" / "report" / "index.html").is_file()
