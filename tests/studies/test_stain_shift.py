"""Evaluation of a finished run under colour shifts."""

import json
import shutil
from pathlib import Path

import made_results
import pytest

from jaxnets.errors import ConfigError
from studies import stain_jitter as shifts
from studies.stain_shift import stain_shift


def test_a_run_is_evaluated_under_every_shift(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    monkeypatch.setattr(shifts, "SHIFTS", {**shifts.SHIFTS, "hue": (0.0, 0.5)})
    leaks = {"validation": 0.5, "test": 0.25}
    monkeypatch.setattr("studies.stain_shift.leaked_fractions", lambda split, group_ids: leaks)
    archived = tmp_path / "archived"
    archived.mkdir()
    with pytest.raises(ConfigError, match="has no result of"):
        stain_shift(run, stored=archived)
    shutil.copy(run / "result.json", archived)
    measured = stain_shift(run, stored=archived)
    message = "random, LEAKY: 25.0 % of test images have a near-duplicate in training"
    assert measured["split_description"].startswith(message)
    assert measured["leakage"] == leaks
    assert message in capsys.readouterr().out
    result = json.loads((run / "result.json").read_text())
    assert measured["clean"] == result["tests"]["clean"]
    assert json.loads((run / "report" / "stain_shift.json").read_text()) == measured
    assert json.loads((archived / "stain_shift.json").read_text()) == measured
    assert (run / "report" / "stain_shift.png").read_bytes().startswith(b"\x89PNG")
    same, turned = measured["shifts"]["hue"]
    assert same["loss"] == pytest.approx(measured["clean"]["loss"], rel=1e-4)
    assert turned["loss"] != pytest.approx(measured["clean"]["loss"], rel=1e-4)
    assert len(measured["shifts"]["eosin"]) == len(shifts.SHIFTS["eosin"])


def test_images_without_colour_raise(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jaxnets import config as config_lib

    config = config_lib.load_config(str(repository / "configs" / "mlp_tanh.py"))
    made_results.write_files(tmp_path, {"config.json": config_lib.to_json(config)})
    with pytest.raises(ConfigError, match="are not in colour"):
        stain_shift(tmp_path)
