"""The map of a run's features for its report: similar images are close, by class and by group."""

from collections.abc import Sequence

import numpy as np

from jaxnets.data.dataset import Dataset
from jaxnets.evaluation.report import plots
from jaxnets.evaluation.report.page import FeatureMap
from jaxnets.experiment.predictor import BATCH_SIZE, Predictor

MAX_HELD_OUT, MAX_TRAINING = 400, 200
"""The most images of a map, so that it adds little time to an evaluation."""
PALETTE = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),  # of Okabe and Ito
    *("#8c564b", "#7f3fbf", "#a0a010", "#17a2b8", "#d62728", "#444444"),
)
"""The colours of groups, and of classes; with more classes some share a colour, and there is no legend."""
MAX_GROUPS, GREY = len(PALETTE), "#c3cad3"


def make_feature_map(data: Dataset, predictor: Predictor, part: str) -> FeatureMap | None:
    """Draws up to 400 images of a part of the split; None for fewer than three.

    They are drawn group by group, in random order. Up to twelve groups have a colour, those with images in
    training first; their training images are drawn too, up to 200.
    """
    if len(data.split.parts()[part]) < 3:
        return None
    train = data.split.train if part != "train" else np.zeros(0, np.int64)
    held_out = _choose(data.split.parts()[part], data.group_ids)
    groups = _groups_to_colour(held_out, train, data.group_ids)
    beside = np.zeros(0, np.int64)
    if data.group_ids is not None:
        beside = train[np.isin(data.group_ids[train], groups)]
        beside = np.random.default_rng(0).permutation(beside)[:MAX_TRAINING]
    indices = np.concatenate([held_out, beside])
    in_training = np.arange(len(indices)) >= len(held_out)
    batches = map(predictor.probabilities_and_features, data.images(indices, BATCH_SIZE))
    features = np.concatenate([features for _, features in batches])
    if features.shape[1] < 2:
        return None
    places, axes = _principal_components(features, len(held_out))

    def chart(
        name: str, shown: np.ndarray, colours: Sequence[str], legend: Sequence[tuple[str, str]]
    ) -> plots.Chart:
        names = [data.source.files[index] for index in indices[shown]]
        marks = (places[shown], colours, names, in_training[shown])
        return plots.scatter_chart(name, *marks, axes=axes, legend=legend)

    classes, labels = data.source.classes, data.source.labels[held_out]
    legend = list(zip(PALETTE, classes, strict=False)) if len(classes) <= len(PALETTE) else []
    by_class = [PALETTE[label % len(PALETTE)] for label in labels]
    charts = [chart("By class", np.arange(len(held_out)), by_class, legend)]
    if data.group_ids is not None and len(groups):
        colour_of = dict(zip(groups.tolist(), PALETTE, strict=False))
        by_group = [colour_of.get(int(group), GREY) for group in data.group_ids[indices]]
        order = np.argsort([each != GREY for each in by_group], kind="stable")  # the grey ones are below
        charts.append(chart("By group", order, [by_group[index] for index in order], []))
    return FeatureMap(charts, _describe(data, part, len(groups), len(beside)))


def _principal_components(features: np.ndarray, fitted: int) -> tuple[np.ndarray, list[str]]:
    """Places [N, 2] of features [N, C] and labels of the axes, by PCA of the first `fitted` features."""
    from sklearn.decomposition import PCA  # slow to import

    with np.errstate(invalid="ignore"):  # of a network whose features are constant
        found = PCA(2, svd_solver="full").fit(features[:fitted])  # others may draw random numbers
    shares = np.nan_to_num(found.explained_variance_ratio_)
    axes = [f"component {number} ({100 * share:.0f} %)" for number, share in enumerate(shares, 1)]
    return found.transform(features), axes


def _choose(indices: np.ndarray, group_ids: np.ndarray | None) -> np.ndarray:
    """Up to MAX_HELD_OUT indices, group by group in a random order."""
    generator = np.random.default_rng(0)
    if group_ids is None:
        return generator.permutation(indices)[:MAX_HELD_OUT]
    _, numbers = np.unique(group_ids[indices], return_inverse=True)
    rank = generator.permutation(numbers.max() + 1)
    return indices[np.argsort(rank[numbers], kind="stable")][:MAX_HELD_OUT]


def _groups_to_colour(held_out: np.ndarray, train: np.ndarray, group_ids: np.ndarray | None) -> np.ndarray:
    """Groups of several images, those with training images first; without `group_ids` none."""
    if group_ids is None:
        return np.zeros(0, np.int64)
    groups, first, counts = np.unique(group_ids[held_out], return_index=True, return_counts=True)
    leaks = np.isin(groups, group_ids[train])
    several = np.flatnonzero(leaks | (counts > 1))
    order = several[np.lexsort((first[several], ~leaks[several]))]
    return groups[order[:MAX_GROUPS]]


def _describe(data: Dataset, part: str, groups: int, beside: int) -> str:
    """What the right-hand chart shows, or why there is none."""
    if data.group_ids is None:
        return "A chart by group is left out, as no groups are known."
    if not groups:
        return "A chart by group is left out: no two images shown are of one group."
    total = len(np.unique(data.group_ids[data.split.parts()[part]]))
    text = f"In the chart by group, {groups} of {total:,} groups have a colour; the others are grey."
    if part == "train":
        return text
    if beside:
        return f"{text} Crosses are training images of these groups: this split leaks."
    return f"{text} A cross would be a training image of these groups: there is none."
