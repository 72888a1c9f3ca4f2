"""result.json: its schema, its checks, its reader and its writer."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, cast

import numpy as np

from jaxnets.errors import CheckpointError
from jaxnets.evaluation.metrics import ClassScores, Scores
from jaxnets.evaluation.predictions import Predictions
from jaxnets.evaluation.statistics import group_interval, wilson_interval
from jaxnets.schema import Count, Fraction, Length, Pattern, Range, Sha256, parse, problem

RESULT = "result.json"
SCHEMA_VERSION = 2
"""Version 1 had no `schema_version`, and its first files lacked the fields of `ADDED`."""
DENSE_CLASSES = 100
"""With more classes, only the nonzero cells of a confusion matrix are stored."""
WILSON, GROUP_BOOTSTRAP = "wilson", "group bootstrap"
WILSON_BY_GROUP = "wilson, a group for an example"
"""Used when the group bootstrap is degenerate: a single group, or the same accuracy in every group."""
DATASETS_WITH_DUPLICATES = {"lc25000_lung": "its 15,000 images are augmented copies of 750 photographs"}
"""Sources known to contain near-duplicates: a random split of them leaks."""

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


class SplitFields(TypedDict):
    """How a run's data were split; `leakage` is the leaked fraction of each held-out part."""

    data: str
    split: str
    groups: str | None
    group_level: str | None
    leakage: dict[str, Fraction | None]


class Result(SplitFields):
    """result.json. None means unknown or not applicable."""

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
    on_cached_features: bool | None
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
    test_accuracy: Fraction | None
    test_examples: Positive
    test_interval: Interval | None
    interval_method: str | None
    tests: dict[str, Test]
    validation_accuracy: Fraction | None
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


ADDED = (
    *("truncate_after", "weights", "pretrained_on", "freeze_backbone", "on_cached_features"),
    *("features_seconds", "trained_parameters", "groups", "group_level", "fold"),
)
"""Fields that version 1 may lack; they are read as None."""


def from_json(data: bytes, path: Path) -> Result:
    """The result in the bytes of the file `path`; raises CheckpointError where a field is wrong."""
    try:
        content = parse(data)
        if isinstance(content, dict) and "schema_version" not in content:
            content = {"schema_version": SCHEMA_VERSION, **dict.fromkeys(ADDED), **content}
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
    tests: dict[str, Test] = content["tests"]
    if "clean" not in tests:
        return "tests.clean is missing"
    for name, test in tests.items():
        if found := _contradiction(test):
            return f"tests.{name}: {found}"
    for name in ("accuracy", "examples", "interval", "interval_method"):
        copy = name if name == "interval_method" else f"test_{name}"
        if content[copy] != tests["clean"].get(name):
            return f"{copy} is not that of tests.clean"
    return None


def _contradiction(test: Test) -> str | None:
    fields = {"accuracy", "interval", "interval_method", "confusion"} & test.keys()
    if not fields:
        return None
    if len(fields) < 4:
        return f"{min(fields)} is present without the other fields of a classification"
    low, high = test["interval"]
    if low > high:
        return "interval ends before it begins"
    try:
        _, cells = _cells(test)
    except ValueError as error:
        return f"confusion: {error}"
    examples, correct = cells[:, 2].sum(), cells[cells[:, 0] == cells[:, 1], 2].sum()
    if examples != test["examples"]:
        return f"confusion counts {examples} examples, not {test['examples']}"
    # Accuracy may be a quotient of float32 sums.
    if not math.isclose(correct / examples, test["accuracy"], abs_tol=1e-6):
        return "accuracy is not that of confusion"
    return None


def test_entry(scores: Scores, predictions: Predictions | None) -> Test:
    """One entry of `tests`: accuracy with its interval, loss, count and confusion[label, prediction].

    A regression has only loss and count. The interval is a group bootstrap if `predictions`, of the same
    examples, contain near-duplicates, else Wilson's interval over examples.
    """
    if not isinstance(scores, ClassScores):
        return {"loss": scores.loss, "examples": scores.examples}
    interval, method = wilson_interval(scores.correct, scores.examples), WILSON
    if predictions is not None and predictions.has_near_duplicates:
        interval, method = group_interval(predictions.correct, predictions.group), GROUP_BOOTSTRAP
        if scores.correct in (0, scores.examples) or math.isnan(interval[0]):
            count = len(np.unique(predictions.group))
            interval, method = wilson_interval(round(scores.accuracy * count), count), WILSON_BY_GROUP
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
    """Whether held-out images have near-duplicates in training, measured or known from the source."""
    leakage = fields["leakage"]
    has_duplicates = fields["split"] == "random" and fields["data"] in DATASETS_WITH_DUPLICATES
    return any(leakage.values()) or (has_duplicates and leakage.get("test") is None)


def epochs_of(total_steps: int, steps_per_epoch: int) -> float:
    """The number of epochs, an int if it is integral."""
    epochs = total_steps / steps_per_epoch
    return int(epochs) if epochs == int(epochs) else round(epochs, 4)
