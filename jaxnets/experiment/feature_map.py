"""The map of a run's features for its report: similar images are close, by class and by group."""

import colorsys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import config_dict

from jaxnets import ops
from jaxnets.data.dataset import Dataset, eval_batches
from jaxnets.evaluation.report import plots
from jaxnets.evaluation.report.page import FeatureMap
from jaxnets.evaluation.statistics import principal_components
from jaxnets.experiment.evaluator import fold_state
from jaxnets.experiment.restore import Restored
from jaxnets.runtime import xla
from jaxnets.training.preprocess import make_preprocess

MAX_HELD_OUT, MAX_TRAINING = 400, 200
"""The most images of a map, so that it adds little time to an evaluation."""
PALETTE = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),  # of Okabe and Ito
    *("#8c564b", "#7f3fbf", "#a0a010", "#17a2b8", "#d62728", "#444444"),
)
MAX_GROUPS = len(PALETTE)
"""The most groups with a colour, and the most classes of which the caption has the names."""
GREY, BATCH_SIZE = "#c3cad3", 32


def make_feature_map(
    config: config_dict.ConfigDict, data: Dataset, restored: Restored, part: str
) -> FeatureMap | None:
    """Draws up to 400 images of a part of the split; None for fewer than three, and for a regression.

    They are drawn group by group, in random order. Up to twelve groups have a colour, those with images in
    training first; their training images are drawn too, up to 200.
    """
    if data.source.kind != "image" or len(data.split.parts()[part]) < 3:
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
    places, fractions = principal_components(_features(config, data, restored, indices), ~in_training)
    labels = [f"component {number} ({100 * share:.0f} %)" for number, share in enumerate(fractions, 1)]

    def chart(name: str, shown: np.ndarray, colours: Sequence[str], legend: Sequence[tuple[str, str]]) -> Any:
        names = [data.source.files[index] for index in indices[shown]]
        return plots.scatter_chart(
            name, places[shown], colours, names, in_training[shown], axes=labels, legend=legend
        )

    classes = data.source.classes
    by_class = _colours(len(classes))
    charts = [
        chart(
            "By class",
            np.flatnonzero(~in_training),
            [by_class[data.source.labels[index]] for index in held_out],
            list(zip(by_class, classes, strict=True)) if len(classes) <= len(PALETTE) else [],
        )
    ]
    if len(groups):
        assert data.group_ids is not None
        colour = dict(zip(groups.tolist(), _colours(len(groups)), strict=True))
        colours = [colour.get(int(group), GREY) for group in data.group_ids[indices]]
        order = np.argsort([each != GREY for each in colours], kind="stable")  # the grey ones are below
        charts.append(chart("By group", order, [colours[index] for index in order], []))
    return FeatureMap(charts, _describe(data, part, len(groups), len(held_out), len(beside)))


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


def _features(
    config: config_dict.ConfigDict, data: Dataset, restored: Restored, indices: np.ndarray
) -> np.ndarray:
    """The mean of the last feature map, float32[N, C], of examples."""
    preprocess = make_preprocess(config, train=False)
    variables = fold_state(config, restored.model, restored.state, data.shape).variables()
    apply: Callable[..., Any] = restored.model.apply

    def features(variables: Any, batch: dict[str, Any]) -> jax.Array:
        inputs, _ = preprocess(batch, jax.random.key(0))
        maps = apply(variables, inputs, train=False, method="features")
        return ops.global_average_pool(maps).astype("float32")

    compute = xla.jit(features)
    batches = eval_batches(data.source, indices, BATCH_SIZE, threads=data.batching.threads)
    return np.concatenate([np.asarray(compute(variables, batch)) for batch in batches])[: len(indices)]


def _colours(count: int) -> list[str]:
    """Colours for a web page: the palette, or different hues if it has too few."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    hues = (colorsys.hls_to_rgb(number / count, 0.36 + 0.16 * (number % 2), 0.75) for number in range(count))
    return ["#" + "".join(f"{round(255 * value):02x}" for value in hue) for hue in hues]


def _describe(data: Dataset, part: str, groups: int, held_out: int, beside: int) -> str:
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
