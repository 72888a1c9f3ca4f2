"""result.json: its schema and its checks, and how a result is described in text."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, cast

import numpy as np

from jaxnets.errors import CheckpointError
from jaxnets.evaluation.predictions import ClassScores, Predictions, Scores
from jaxnets.evaluation.statistics import group_interval, wilson_interval
from jaxnets.schema import Count, Fraction, Length, Pattern, Range, Sha256, parse, problem

RESULT = "result.json"
SCHEMA_VERSION = 2
DENSE_CLASSES = 100  # with more classes, only the nonzero cells of a confusion matrix are stored
WILSON, WILSON_BY_GROUP = "wilson", "wilson, by groups"
WILSON_GROUPS_UNKNOWN = "wilson, groups unknown"
"""Values of interval_method: `statistics.wilson_interval` and `group_interval`.

With unknown groups, the interval is too narrow if several images show one patient. Results of earlier
versions have "group bootstrap" (BCa) and "wilson, a group for an example".
"""
DATASETS_WITH_DUPLICATES = {"lc25000_lung": "its 15,000 images are augmented copies of 750 photographs"}
"""Sources known to contain near-duplicates: a random split of them leaks."""
TESTED_ON = {
    "clean": "clean images",
    "augmented": "augmented images",
    "dropout": "clean images, dropout on",
    "augmented_dropout": "augmented images, dropout on",
}
"""Descriptions of the keys of `tests`."""

Positive = Annotated[int, Range(1, 2**31)]
Interval = Annotated[list[Fraction], Length(2, 2)]
Seconds = Annotated[float, Range(0)]


class SparseMatrix(TypedDict):
    """A matrix [classes, classes] as a list of its nonzero cells [label, prediction, count]."""

    classes: Positive
    counts: list[Annotated[list[Count], Length(3, 3)]]


class Test(TypedDict):
    """Metrics on one set of examples; a regression has only loss and count."""

    loss: float
    examples: Positive
    accuracy: NotRequired[Fraction]
    interval: NotRequired[Interval]
    interval_method: NotRequired[str]
    confusion: NotRequired[list[list[Count]] | SparseMatrix]


class TestSummary(TypedDict):
    """The fields of a result that repeat tests.clean; None and 0 without it."""

    test_accuracy: Fraction | None
    test_examples: Count
    test_interval: Interval | None
    interval_method: str | None


class TestedRun(TypedDict):
    """One run of a cross-validation, in the directory `name`."""

    name: str
    fold: Count
    seed: Count
    accuracy: Fraction
    interval: Interval
    examples: Positive
    groups: Count | None
    split_sha256: Sha256
    finished: str


class CrossValidation(TypedDict):
    """The runs whose test predictions were pooled: each of `folds` folds with every seed."""

    folds: Positive
    runs: list[TestedRun]


class SplitFields(TypedDict):
    """How a run's data were split; `leakage` is the leaked fraction of each held-out part.

    `given_groups` are those of the data, such as patients, not near-duplicates that were found.
    """

    data: str
    split: str
    groups: str | None
    given_groups: NotRequired[bool]
    group_level: str | None
    leakage: dict[str, Fraction | None]


class Result(SplitFields, TestSummary):
    """result.json. None means unknown or not applicable.

    With `cross_validation`, the tests are those of its runs together.
    """

    schema_version: Literal[2]
    name: str
    entry: str | None
    model: str
    truncate_after: str | None
    weights: str | None
    pretrained_on: str | None
    freeze_backbone: bool | None
    parameters: Count
    auxiliary_parameters: Count
    on_cached_features: bool
    features_seconds: Seconds | None
    trained_parameters: Count | None
    split_sha256: Sha256
    fold: Annotated[list[Count], Length(2, 2)] | None
    image_size: Positive | None
    epochs: Annotated[float, Range(0)]
    seed: Count
    batch_size: Positive
    overrides: list[str]
    command: str
    implementation: str
    tests: dict[str, Test]
    cross_validation: NotRequired[CrossValidation]
    validation_accuracy: Fraction | None
    temperature: NotRequired[Annotated[float, Range(0.001, 1000)] | None]  # fitted on validation examples
    train_accuracy: Fraction | None
    curves: str
    seconds: Seconds
    images_per_second: Annotated[float, Range(0)] | None
    hardware: str
    versions: dict[str, str]
    finished: Annotated[str, Pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")]
    stopped_early: str | None
    step: Count
    not_bit_exact: bool
    complete: Literal[True]
    note: str


def from_json(data: bytes, path: Path) -> Result:
    """The result in the bytes of the file `path`; raises CheckpointError if a field is wrong."""
    try:
        content = parse(data)
        if found := check(content):
            raise ValueError(found)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}): restore it from a copy") from error
    return cast(Result, content)


def to_json(result: Result) -> str:
    """The text of result.json; raises ValueError if the result does not match the schema."""
    if found := check(result):
        raise ValueError(f"the result does not match its schema: {found}")
    return json.dumps(result, indent=1, allow_nan=False) + "\n"


def check(content: Any) -> str | None:
    """Describes what is wrong with a result; None if its fields are valid and consistent."""
    if found := problem(content, Result):
        return found
    if content["tests"] and "clean" not in content["tests"]:
        return "tests.clean is missing"
    for name, test in content["tests"].items():
        if found := _contradiction(test):
            return f"tests.{name}: {found}"
    for copy, value in summary_of(content["tests"]).items():
        if content[copy] != value:
            return f"{copy} is not that of tests.clean"
    return None


def summary_of(tests: Mapping[str, Any]) -> TestSummary:
    """The fields of a result that repeat tests.clean."""
    clean = tests.get("clean", {})
    return {
        "test_accuracy": clean.get("accuracy"),
        "test_examples": clean.get("examples", 0),
        "test_interval": clean.get("interval"),
        "interval_method": clean.get("interval_method"),
    }


def _contradiction(test: Test) -> str | None:
    fields = {"accuracy", "interval", "interval_method", "confusion"} & test.keys()
    if 0 < len(fields) < 4:
        return f"{min(fields)} is present without the other fields of a classification"
    if not fields:
        return None
    if test["interval"][0] > test["interval"][1]:
        return "interval ends before it begins"
    try:
        _, cells = _cells(test)
    except ValueError as error:
        return f"confusion: {error}"
    examples, correct = cells[:, 2].sum(), cells[cells[:, 0] == cells[:, 1], 2].sum()
    if examples != test["examples"]:
        return f"confusion counts {examples} examples, not {test['examples']}"
    # Accuracy may be a quotient of float32 sums.
    is_close = math.isclose(correct / examples, test["accuracy"], abs_tol=1e-6)
    return None if is_close else "accuracy is not that of confusion"


def test_entry(scores: Scores, predictions: Predictions | None) -> Test:
    """One entry of `tests`.

    The interval is `statistics.group_interval` if `predictions`, of the same examples, contain
    near-duplicates or images several times, else Wilson's over examples.
    """
    if not isinstance(scores, ClassScores):
        return {"loss": scores.loss, "examples": scores.examples}
    interval, method = wilson_interval(scores.correct, scores.examples), WILSON
    if predictions is not None and predictions.has_dependent_examples:
        interval, method = group_interval(predictions.correct, predictions.units), WILSON_BY_GROUP
    if predictions is not None and not predictions.groups_known:
        method = WILSON_GROUPS_UNKNOWN
    return {
        "accuracy": scores.accuracy,
        "interval": list(interval),
        "interval_method": method,
        "loss": scores.loss,
        "examples": scores.examples,
        "confusion": stored_confusion(scores.confusion),
    }


def stored_confusion(matrix: np.ndarray) -> list[list[int]] | SparseMatrix:
    """A confusion matrix int[K, K] in the form that result.json stores."""
    if len(matrix) <= DENSE_CLASSES:
        return matrix.tolist()
    cells = np.argwhere(matrix)
    counts = np.column_stack([cells, matrix[tuple(cells.T)]])
    return {"classes": len(matrix), "counts": counts.tolist()}


def confusion_matrix(test: Mapping[str, Any]) -> np.ndarray:
    """The confusion matrix int64[K, K], [label, prediction], of an entry of `tests`.

    Raises ValueError if it is not square, or a cell lies outside of it or occurs twice.
    """
    classes, cells = _cells(test)
    matrix = np.zeros((classes, classes), np.int64)
    matrix[cells[:, 0], cells[:, 1]] = cells[:, 2]
    return matrix


def _cells(test: Mapping[str, Any]) -> tuple[int, np.ndarray]:
    """The number of classes, and the stored cells int64[M, 3]: label, prediction, count."""
    stored = test["confusion"]
    if isinstance(stored, list):
        if any(len(row) != len(stored) for row in stored):
            raise ValueError("the matrix is not square")
        cells = [(i, j, count) for i, row in enumerate(stored) for j, count in enumerate(row)]
        return len(stored), np.array(cells, np.int64).reshape(-1, 3)
    cells = np.array(stored["counts"], np.int64).reshape(-1, 3)
    if len(cells) and cells[:, :2].max() >= stored["classes"]:
        raise ValueError(f"a cell lies outside of {stored['classes']} classes")
    if len(np.unique(cells[:, :2], axis=0)) < len(cells):
        raise ValueError("a cell occurs twice")
    return stored["classes"], cells


def is_leaky(fields: SplitFields) -> bool:
    """Whether held-out images have images of their group in training, measured or known from the source."""
    leakage = fields["leakage"]
    has_duplicates = fields["split"] == "random" and fields["data"] in DATASETS_WITH_DUPLICATES
    return any(leakage.values()) or (has_duplicates and leakage.get("test") is None)


def relation(*, given_groups: bool) -> str:
    """What a held-out image that leaks has in training."""
    return "images of their group" if given_groups else "a near-duplicate"


def format_epochs(count: float) -> str:
    """The number with its unit: "1 epoch"."""
    return f"{count:g} epoch" + ("" if count == 1 else "s")


def format_head(result: Result) -> str:
    """A note on a speed that was measured with only the head trained, on cached features; else ""."""
    return " (head only, cached features)" if result["on_cached_features"] else ""


def format_network(result: Result, title: str) -> str:
    """The network, where it is truncated, and what its backbone was pretrained on, e.g. for tables."""
    network = f"{title} up to {result['truncate_after']}" if result["truncate_after"] else title
    weights = result["weights"]
    if weights is None:
        return network
    state = "frozen" if result["freeze_backbone"] else "fine-tuned"
    name = "random weights" if weights == "random" else Path(weights).name
    return f"{network} (backbone: {result['pretrained_on'] or name}, {state})"


def format_split(fields: SplitFields) -> str:
    """The kind of split, and the fraction of held-out images that leak."""
    split = format_split_kind(fields)
    if not is_leaky(fields):
        return split
    remedy = "" if fields["split"] == "grouped" else " (--config.data.split=grouped)"
    for part in ("test", "validation"):
        if leaked := fields["leakage"].get(part):
            images = f"{100 * leaked:.1f} % of {part} images"
            relation_in_training = relation(given_groups=fields.get("given_groups", False))
            return f"{split}: {images} have {relation_in_training} in training{remedy}"
    return f"{split}: {DATASETS_WITH_DUPLICATES[fields['data']]} (fraction not measured)"


def format_split_kind(fields: SplitFields) -> str:
    """The kind of split, marked if it leaks: "random, LEAKY"."""
    return f"{fields['split']}{format_grouping(fields)}{', LEAKY' if is_leaky(fields) else ''}"


def format_grouping(fields: SplitFields) -> str:
    """Names the groups of a grouped split (" by ..."); "" for the source's default groups."""
    level = None if fields["group_level"] == "group" else fields["group_level"]
    names = ", ".join(name for name in (fields["groups"], level) if name)
    return f" by {names}" if names and fields["split"] == "grouped" else ""


def format_test(test: Test) -> str:
    """The accuracy of a test with its interval, or the loss of a regression."""
    if "accuracy" not in test:
        return f"loss {test['loss']:.4g}"
    low, high = test["interval"]
    return f"{100 * test['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
