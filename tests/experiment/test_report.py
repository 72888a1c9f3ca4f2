"""The HTML report of a run directory."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxnets.commands import evaluate
from jaxnets.data import sources
from jaxnets.errors import CheckpointError, ConfigError
from jaxnets.evaluation import statistics
from jaxnets.evaluation.predictions import ClassScores, load_predictions, predictions_name
from jaxnets.evaluation.report.measure import NAMES
from jaxnets.evaluation.report.page import format_metric
from jaxnets.experiment.run_directory import open_run


@pytest.fixture(scope="module")
def reported(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the calibrated run, evaluated."""
    directory = tmp_path_factory.mktemp("reported") / "run"
    shutil.copytree(calibrated, directory)
    evaluate.evaluate(directory, part="validation")
    evaluate.evaluate(directory)
    return directory


def test_evaluation_repeats_the_result(reported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = evaluate.evaluate(reported)
    result = json.loads((reported / "result.json").read_text())
    assert measured["accuracy"] == result["test_accuracy"]
    assert measured["interval"] == result["test_interval"]
    assert measured["confusion"] == result["tests"]["clean"]["confusion"]
    assert measured["leakage"]["test"] == result["leakage"]["test"]
    message = capsys.readouterr().out
    assert "recall" in message
    assert "split     random\n" in message


def test_leakage_is_printed(
    reported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leaks = {"validation": 0.5, "test": 0.25}
    monkeypatch.setattr("jaxnets.commands.evaluate.leaked_fractions", lambda split, group_ids: leaks)
    monkeypatch.setattr("jaxnets.commands.evaluate.write_report", lambda *given: "nowhere")
    evaluate.evaluate(reported)
    assert "split     random, LEAKY: 25.0 % of test images have a near-duplicate" in capsys.readouterr().out


@pytest.mark.parametrize(("fraction", "marks"), [(0.25, True), (0.0, False)])
def test_leakage_is_at_the_head_of_the_page(
    fraction: float, marks: bool, reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(reported, copy)
    leaks = {"validation": 0.5, "test": fraction}
    monkeypatch.setattr("jaxnets.commands.evaluate.leaked_fractions", lambda split, group_ids: leaks)
    evaluate.evaluate(copy)
    head, _, _ = (copy / "report" / "index.html").read_text().partition("<h2>")
    assert ("LEAKY: 25.0 % of the test images have a near-duplicate in training" in head) is marks
    assert ('accuracy, <strong class="leak">LEAKY</strong>' in head) is marks


def test_the_page_matches_metrics_json(reported: Path, read_page) -> None:
    metrics = json.loads((reported / "report" / "metrics.json").read_text())
    html = (reported / "report" / "index.html").read_text()
    page = read_page(html)
    assert page.figures["all", "accuracy"] == f"{100 * metrics['accuracy']:.2f} %"
    assert page.figures["all", "examples"] == str(metrics["examples"])
    for k, row in enumerate(metrics["classes"]):
        for name in NAMES:
            assert page.figures[str(k), name] == format_metric(row[name], name)
    message = metrics["calibration"]["temperature"]
    checked = load_predictions(reported / predictions_name("validation"))
    tested = load_predictions(reported / predictions_name())
    fitted = checked.fit_temperature()
    assert fitted is not None
    cooled = statistics.with_temperature(tested.probabilities, fitted)
    after = statistics.calibration(cooled, tested.label).error
    assert message["value"] == pytest.approx(fitted)
    assert message["expected_error_before"] == metrics["calibration"]["expected_error"]
    assert message["expected_error_after"] == pytest.approx(after)
    assert page.figures["all", "temperature"] == f"{fitted:.3g}"
    assert page.figures["all", "calibration-after"] == f"{100 * after:.1f} %"
    assert all(address.startswith("data:") for address in page.addresses)
    assert sources.DISCLAIMER not in page.words  # synthetic images
    assert f"--workdir {reported}" in page.words
    manifest = json.loads((reported / "manifest.json").read_text())
    assert manifest["split_sha256"] in page.words
    assert "Split: random" in page.words
    assert "0.0 % of test" in page.words


def test_images_match_the_predictions(reported: Path, read_page) -> None:
    predictions = load_predictions(reported / predictions_name())
    wrong = int((~predictions.correct).sum())
    page = read_page((reported / "report" / "index.html").read_text())
    # The map of 2x2 cells is left out.
    assert page.tags.count("img") == min(wrong, 12) + min(len(predictions.label), 12)
    assert "Grad-CAM is left out: the network's last feature map is 2x2, too coarse" in page.words
    surest = predictions.probabilities.max(1)[~predictions.correct]
    assert wrong  # after so few steps
    assert f"({100 * surest.max():.1f} %)" in page.words


def test_grad_cam_maps_that_are_large_enough_are_shown(
    reported: Path, read_page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(reported, copy := tmp_path / "copy")
    before = read_page((copy / "report" / "index.html").read_text()).tags.count("img")
    monkeypatch.setattr("jaxnets.evaluation.gradcam.MIN_SIDE", 2)
    evaluate.evaluate(copy)
    page = read_page((copy / "report" / "index.html").read_text())
    assert page.tags.count("img") == 2 * before
    assert "Grad-CAM is left out" not in page.words
    assert page.words.count("at the resolution of the network's last feature map") == 1


def test_a_page_on_medical_data_has_the_disclaimer(
    reported: Path, read_page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(reported, copy := tmp_path / "copy")
    monkeypatch.setattr(sources, "MEDICAL", {"synthetic_tissue"})
    evaluate.evaluate(copy)
    page = read_page((copy / "report" / "index.html").read_text())
    assert page.words.count(sources.DISCLAIMER) == 2  # at the head and at the foot


def test_another_data_root_leaves_the_config_of_the_run_unchanged(
    reported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = []
    monkeypatch.setattr(evaluate, "_evaluate", lambda run, part, **_: seen.append(run.config) or {})
    evaluate.evaluate(reported, data_root=str(tmp_path))
    assert seen[0].data.root == str(tmp_path)
    with pytest.raises(AttributeError):
        seen[0].data.root = "elsewhere"
    assert open_run(reported).config.data.root != str(tmp_path)


def test_other_subsets_have_their_own_pages(reported: Path) -> None:
    before = (reported / "report" / "index.html").read_bytes()
    evaluate.evaluate(reported, part="validation")
    message = (reported / "report" / "index-validation.html").read_text()
    assert "may have been used to select the checkpoint" in message
    metrics = json.loads((reported / "report" / "metrics-validation.json").read_text())
    assert metrics["split"] == "validation"
    assert metrics["calibration"]["temperature"] is None  # not fitted on the subset that it is evaluated on
    assert "temperature" not in message
    assert (reported / "report" / "index.html").read_bytes() == before
    with pytest.raises(ConfigError, match="train, validation, test"):
        evaluate.evaluate(reported, part="tset")


def test_an_unfinished_run_is_marked(reported: Path, tmp_path: Path) -> None:
    cut = tmp_path / "truncate_after"
    shutil.copytree(reported, cut)
    (cut / "result.json").unlink()
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "epo')
    with pytest.raises(CheckpointError, match=r"result.json is missing"):
        evaluate.evaluate(cut)
    evaluate.evaluate(cut, ignore_damage=True)
    assert "This run is not finished" in (cut / "report" / "index.html").read_text()
    shutil.rmtree(cut / "checkpoints")
    with pytest.raises(CheckpointError, match="no valid checkpoint"):
        evaluate.evaluate(cut, ignore_damage=True)


def test_the_worst_of_many_classes_are_printed() -> None:
    count = 30
    confusion = np.eye(count, dtype=int) * 4
    confusion[7, 7], confusion[7, 3] = 1, 3
    confusion[9] = 0  # no example is of it
    scores = ClassScores(0.1, int(confusion.sum()), 0.9, 1, confusion)
    measured = {"interval": [0.8, 0.95], "interval_method": "wilson"}
    message = evaluate._format(scores, [f"class {k}" for k in range(count)], measured).splitlines()
    assert message[3].startswith("lowest of 30")
    assert re.fullmatch(r"class 7 +4 +25.0 %  class 3, 3", message[4])
    assert len(message) == 4 + 20
    assert not [line for line in message if line.startswith("class 9 ")]


@pytest.mark.parametrize("names", [("a", "b"), ("circles", "a rather long name of a class")])
def test_the_table_header_is_aligned(names: tuple[str, str]) -> None:
    scores = ClassScores(0.5, 5, 0.8, 4, confusion=np.array([[2, 1], [0, 2]]))
    measured = {"interval": [0.2, 0.9], "interval_method": "wilson"}
    head, *rows = evaluate._format(scores, names, measured).splitlines()[3:]
    assert head.startswith(r"true \ predicted  ")
    for name in names:
        end = head.index(f" {name}  ") + 1 + len(name)
        for row in rows:
            assert row[end - 1].isdigit()
            assert row[end] == " "


@pytest.mark.parametrize(
    ("names", "heads"),
    [
        ([str(digit) for digit in range(10)], [str(digit) for digit in range(10)]),
        (["adenocarcinoma", "benign tissue", "squamous cell carcinoma"], ["(0)", "(1)", "(2)"]),
        ([f"a class {k} of images" for k in range(7)], [f"({k})" for k in range(7)]),
    ],
)
def test_the_table_fits_80_columns(names: list[str], heads: list[str]) -> None:
    confusion = np.full((len(names), len(names)), 9) + 900 * np.eye(len(names), dtype=int)
    scores = ClassScores(0.5, int(confusion.sum()), 0.8, 4, confusion=confusion)
    measured = {"interval": [0.2, 0.9], "interval_method": "wilson"}
    head, *rows = evaluate._format(scores, names, measured).splitlines()[3:]
    assert max(map(len, [head, *rows])) <= 80
    assert head.split()[3:-1] == heads
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        assert row.startswith(name if heads[0] == names[0] else f"({number}) {name}")
