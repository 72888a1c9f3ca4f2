"""The HTML report."""

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from jaxnets.evaluation.predictions import Predictions
from jaxnets.evaluation.report.measure import NAMES, measure
from jaxnets.evaluation.report.page import (
    Content,
    FeatureMap,
    card,
    format_metric,
    most_confident_mistakes,
    most_uncertain,
    render,
)
from jaxnets.evaluation.report.plots import scatter_chart

BROWSER = next(filter(shutil.which, ("chromium", "chromium-browser", "google-chrome")), None)


def make_predictions(examples: int, classes: int, *, group_ids: bool, seed: int = 0) -> Predictions:
    """Returns predictions that are mostly correct."""
    generator = np.random.default_rng(seed)
    label = np.arange(examples) % classes
    probabilities = generator.dirichlet(np.full(classes, 0.4), examples)
    probabilities[np.arange(examples), label] += generator.choice([0.0, 1.0], examples, p=[0.2, 0.8])
    return Predictions(
        index=np.arange(examples),
        label=label.astype(np.int32),
        probabilities=(probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32),
        files=np.array([f"folder/<{number}>.png" for number in range(examples)]),
        group=np.arange(examples) // (2 * classes) if group_ids else np.full(examples, -1),
    )


def content(predictions: Predictions, names: tuple[str, ...]) -> Content:
    """Returns the content of a page with random images."""
    right = int(predictions.correct.sum())
    confusion = sklearn_metrics.confusion_matrix(
        predictions.label, predictions.predicted, labels=range(len(names))
    )
    metrics = {
        "split": "test",
        "accuracy": right / len(predictions.label),
        "interval": [0.1, 0.9],
        "interval_method": "wilson",
        "loss": 0.25,
        "examples": len(predictions.label),
        "confusion": confusion.tolist(),
        **measure(predictions, names),
    }
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 1), np.uint8)
    heat = np.eye(4, dtype=np.float32)
    cards = [
        [card(predictions, int(position), names, pixels, heat) for position in chosen(predictions, 3)]
        for chosen in (most_confident_mistakes, most_uncertain)
    ]
    line = {"step": 1, "epoch": 0.5, "split": "train", "values": {"loss": 1.0, "accuracy": 0.5}}
    return Content(
        title="A network on data",
        subtitle="where and when",
        part="test",
        warnings=[],
        leak_mark="leak not known",
        disclaimer="For research only.",
        given_groups=False,
        metrics=metrics,
        facts={"note": "<script>alert(1)</script>"},
        split="random",
        parts={part: [5] * len(names) for part in ("train", "validation", "test")},
        curves=[line, {**line, "epoch": 1.0}, {**line, "split": "validation"}],
        mistakes=cards[0],
        uncertain=cards[1],
        no_gradcam="",
        manifest={"git_commit": "abc"},
        commands={"The run:": "python scripts/train.py --config=x"},
    )


@pytest.fixture(scope="module")
def three_classes() -> tuple[Content, Predictions]:
    predictions = make_predictions(90, 3, group_ids=True)
    return content(predictions, ("a & b", "<b>", "c")), predictions


def test_figures_match_scikit_learn(read_page, three_classes: tuple[Content, Predictions]) -> None:
    shown, predictions = three_classes
    figures = read_page(render(shown)).figures
    report = sklearn_metrics.classification_report(predictions.label, predictions.predicted, output_dict=True)
    areas = sklearn_metrics.roc_auc_score(
        predictions.label, predictions.probabilities, multi_class="ovr", average=None
    )
    for k, area in enumerate(areas):
        row = report[str(k)]
        assert figures[str(k), "precision"] == f"{100 * row['precision']:.1f} %"
        assert figures[str(k), "recall"] == f"{100 * row['recall']:.1f} %"
        assert figures[str(k), "f1"] == f"{100 * row['f1-score']:.1f} %"
        assert figures[str(k), "roc_auc"] == f"{area:.4f}"
    assert figures["mean", "f1"] == f"{100 * report['macro avg']['f1-score']:.1f} %"


def test_figures_match_the_metrics(read_page, three_classes: tuple[Content, Predictions]) -> None:
    shown, _ = three_classes
    figures = read_page(render(shown)).figures
    for k, row in enumerate(shown.metrics["classes"]):
        for name in NAMES:
            assert figures[str(k), name] == format_metric(row[name], name)
            low, high = row[name]["interval"]
            assert low <= row[name]["value"] <= high
    assert figures["all", "accuracy"] == f"{100 * shown.metrics['accuracy']:.2f} %"
    json.dumps(shown.metrics)


def test_page_is_self_contained_and_names_are_escaped(
    read_page, three_classes: tuple[Content, Predictions]
) -> None:
    html = render(three_classes[0])
    page = read_page(html)
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert page.tags.count("img") == 2 * 6  # an image and its map
    assert not {"script", "iframe", "object"} & set(page.tags)
    for external in ("http:", "https:", "@import", "url("):
        assert external not in html
    assert "a & b" in page.words
    assert "<script>alert(1)</script>" in page.words


def test_sections_have_the_names_of_the_field(read_page, three_classes: tuple[Content, Predictions]) -> None:
    html = render(three_classes[0])
    assert re.findall(r"<h2>(.*?)</h2>", html) == [
        "Run",
        "Split and leakage",
        "Confusion matrix",
        "Per-class metrics",
        "Calibration",
        "Training curves",
        "Most confident mistakes",
        "Most uncertain images",
        "Reproduce",
    ]


def test_a_map_has_a_dot_or_a_cross_for_each_image(
    read_page, three_classes: tuple[Content, Predictions]
) -> None:
    points = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0]])
    names, crosses = ["a.png", "b.png", "<i>.png"], np.array([False, False, True])
    legend, axes = [("#ff0000", "a & b")], ("component 1 (80 %)", "component 2 (5 %)")
    chart = scatter_chart("By class", points, ["#ff0000"] * 3, names, crosses, axes=axes, legend=legend)
    shown = dataclasses.replace(three_classes[0], feature_map=FeatureMap([chart], "What it shows."))
    section = render(shown).partition("Map of the features")[2].partition("</section>")[0]
    assert section.count("<circle") == 2
    assert section.count("<path") == 1
    assert "<title>b.png</title>" in section
    assert "<title>&lt;i&gt;.png (training)</title>" in section
    assert "component 1 (80 %)" in section
    assert "What it shows." in section
    assert "a &amp; b" in section
    assert "Map of the features" not in render(three_classes[0])


def test_disclaimer_is_shown_only_if_given(read_page, three_classes: tuple[Content, Predictions]) -> None:
    assert read_page(render(three_classes[0])).words.count("For research only.") == 2
    html = render(dataclasses.replace(three_classes[0], disclaimer=""))
    assert "For research" not in read_page(html).words
    assert 'class="research"' not in html


@pytest.mark.parametrize("mistakes", [True, False])
def test_missing_grad_cam_is_explained_once(
    mistakes: bool, read_page, three_classes: tuple[Content, Predictions]
) -> None:
    shown = dataclasses.replace(three_classes[0], no_gradcam="The maps are left out.")
    words = read_page(render(shown if mistakes else dataclasses.replace(shown, mistakes=[]))).words
    assert words.count("The maps are left out.") == 1
    assert "resolution" not in words


def test_intervals_with_near_duplicates_are_wider() -> None:
    """Ten copies of a prediction carry no more information than one."""
    one = make_predictions(60, 3, group_ids=False)
    copies = np.repeat(np.arange(60), 10)
    copied = dataclasses.replace(
        one, **{f.name: getattr(one, f.name)[copies] for f in dataclasses.fields(one)}
    )
    copied = dataclasses.replace(copied, index=np.arange(600))
    grouped = dataclasses.replace(copied, group=copies)
    widths = {}
    for name, predictions in (("copied", copied), ("grouped", grouped), ("one", one)):
        low, high = measure(predictions, "abc")["classes"][0]["f1"]["interval"]
        widths[name] = high - low
    assert widths["grouped"] > 2 * widths["copied"]
    assert widths["grouped"] == pytest.approx(widths["one"], rel=0.25)


def test_intervals_without_mistakes_have_positive_width() -> None:
    predictions = make_predictions(40, 2, group_ids=False)
    confident = np.eye(2, dtype=np.float32)[predictions.label] * 0.8 + 0.1
    figures = measure(dataclasses.replace(predictions, probabilities=confident), "ab")["classes"][0]
    for name in ("precision", "recall", "specificity", "f1"):
        assert figures[name]["value"] == 1
        assert 0.7 < figures[name]["interval"][0] < 0.95
    assert figures["roc_auc"] == {"value": 1, "interval": None}


def test_most_confident_mistakes_and_most_uncertain() -> None:
    predictions = make_predictions(90, 3, group_ids=False)
    mistakes = most_confident_mistakes(predictions, 4)
    assert not predictions.correct[mistakes].any()
    confidence = predictions.probabilities.max(1)
    assert (np.diff(confidence[mistakes]) <= 0).all()
    assert confidence[mistakes[0]] == confidence[~predictions.correct].max()
    best = np.sort(predictions.probabilities)
    assert most_uncertain(predictions, 1)[0] == (best[:, -1] - best[:, -2]).argmin()
    grouped = most_uncertain(make_predictions(90, 3, group_ids=True), 50)
    assert len(grouped) == 15


@pytest.mark.parametrize("classes", [2, 120])
def test_few_and_many_classes(read_page, classes: int) -> None:
    predictions = make_predictions(2 * classes, classes, group_ids=False)
    predictions = dataclasses.replace(predictions, label=np.maximum(predictions.label, 1))
    page = read_page(render(content(predictions, tuple(f"class {k}" for k in range(classes)))))
    rows = {k for k, _ in page.figures} - {"all", "mean"}
    assert len(rows) == min(classes, 25)
    assert ("most frequent confusions" in page.words) == (classes == 120)
    if classes == 2:
        assert page.figures["0", "recall"] == "\N{EN DASH}"  # class 0 has no examples


def test_regression_page(read_page, three_classes: tuple[Content, Predictions]) -> None:
    metrics = {"split": "test", "step": 5, "loss": 0.5, "examples": 4}
    shown = dataclasses.replace(three_classes[0], metrics=metrics, mistakes=[], uncertain=[])
    page = read_page(render(shown))
    assert page.figures["all", "loss"] == "0.5"
    assert "Confusion" not in page.words


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_browser_renders_the_page(
    read_page, three_classes: tuple[Content, Predictions], tmp_path: Path
) -> None:
    path = tmp_path / "index.html"
    path.write_text(render(three_classes[0]))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'own'}"]
    for output in (f"--screenshot={tmp_path / 'page.png'}", f"--print-to-pdf={tmp_path / 'page.pdf'}"):
        subprocess.run(
            [str(BROWSER), *options, output, path.as_uri()], check=True, capture_output=True, timeout=240
        )
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    done = subprocess.run(
        [str(BROWSER), *options, "--dump-dom", path.as_uri()],
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    )
    shown = read_page(done.stdout)
    assert shown.figures == read_page(render(three_classes[0])).figures
