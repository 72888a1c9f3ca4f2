"""Measures of a finder's output against known groups: of pairs of images, and of groups."""

import dataclasses
import itertools
import math
from collections import Counter
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array, triu
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from sklearn.metrics import adjusted_rand_score

from benchmarks.duplicates.scored_pairs import ScoredPairs

RESAMPLES = 500
CURVE_POINTS = 80


@dataclasses.dataclass(frozen=True)
class PairCounts:
    """Numbers of pairs of images: reported, reported and true, true.

    Attributes:
      found: The reported pairs between the true groups g <= h, [G, G]; the diagonal are true pairs.
      true: The true pairs in each group, int[G].
    """

    found: csr_array
    true: np.ndarray

    def measures(self) -> dict[str, float]:
        """Returns precision, recall, their F1, and the number of reported pairs."""
        return {"reported": int(self.found.sum()), **_rates(self._counts(np.ones(len(self.true))))}

    def intervals(self) -> dict[str, list[float]]:
        """Returns 95 % intervals of precision, recall and F1; true groups are resampled, not pairs."""
        generator = np.random.default_rng(0)
        size = len(self.true)
        drawn = (generator.multinomial(size, np.full(size, 1 / size)) for _ in range(RESAMPLES))
        rates = [_rates(self._counts(weights.astype(float))) for weights in drawn]
        return {
            name: np.percentile([each[name] for each in rates], (2.5, 97.5)).tolist()
            for name in ("precision", "recall", "f1")
        }

    def _counts(self, weights: np.ndarray) -> tuple[float, float, float]:
        """Returns true reported, reported and true pairs if the groups occur `weights` times."""
        diagonal = self.found.diagonal()
        right = float(diagonal @ weights)
        false = float(weights @ (self.found @ weights)) - float(diagonal @ weights**2)
        return right, right + false, float(self.true @ weights)


def _rates(counts: tuple[float, float, float]) -> dict[str, float]:
    right, reported, true = counts
    precision = right / reported if reported else 1.0
    recall = right / true if true else 1.0
    f1 = 2 * right / (reported + true) if reported + true else 1.0
    return {"precision": precision, "recall": recall, "f1": f1}


def count_pairs(pairs: ScoredPairs, truth: np.ndarray) -> PairCounts:
    """Counts reported pairs by their true groups int[N]."""
    size = int(truth.max()) + 1
    ends = np.sort(np.stack([truth[pairs.first], truth[pairs.second]]), axis=0)
    ones = np.ones(len(pairs.score), np.int64)
    return PairCounts(coo_array((ones, (ends[0], ends[1])), shape=(size, size)).tocsr(), _true(truth))


def count_group_pairs(groups: np.ndarray, truth: np.ndarray) -> PairCounts:
    """Counts the pairs of images in one group, int[N], by their true groups int[N]."""
    common = contingency(groups, truth)
    product = (common.T @ common).tocsr()
    sizes = np.bincount(truth)
    inside = (product.diagonal() - sizes) // 2
    found = triu(product, k=1) + coo_array((inside, (np.arange(len(sizes)),) * 2), shape=product.shape)
    return PairCounts(csr_array(found), _true(truth))


def _true(truth: np.ndarray) -> np.ndarray:
    sizes = np.bincount(truth)
    return sizes * (sizes - 1) // 2


def contingency(groups: np.ndarray, truth: np.ndarray) -> csr_array:
    """Returns the number of images by group and true group, [K, G]."""
    shape = (int(groups.max()) + 1, int(truth.max()) + 1)
    return coo_array((np.ones(len(truth), np.int64), (groups, truth)), shape=shape).tocsr()


def precision_recall(pairs: ScoredPairs, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns precision, recall and score at each distinct score, the best first."""
    order = np.argsort(-pairs.score, kind="stable")
    score = pairs.score[order]
    right = np.cumsum(truth[pairs.first[order]] == truth[pairs.second[order]])
    last = np.flatnonzero(np.diff(score, append=-np.inf))
    return right[last] / (last + 1), right[last] / max(_true(truth).sum(), 1), score[last]


def average_precision(precision: np.ndarray, recall: np.ndarray) -> float:
    """Returns the mean precision over recall; true pairs that are not in the list count as 0."""
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def curve(precision: np.ndarray, recall: np.ndarray) -> list[list[float]]:
    """Returns some points (recall, precision) for a picture."""
    places = np.unique(np.searchsorted(recall, np.linspace(0, recall.max(initial=0), CURVE_POINTS)))
    places = places[places < len(recall)]
    return [[round(float(recall[at]), 5), round(float(precision[at]), 5)] for at in places]


def components(pairs: ScoredPairs, count: int, threshold: float) -> np.ndarray:
    """Returns groups int[N]: images connected by pairs with at least this score."""
    selected = pairs.score >= threshold
    ends = (pairs.first[selected], pairs.second[selected])
    graph = coo_array((np.ones(len(ends[0]), bool), ends), shape=(count, count))
    return connected_components(graph, directed=False)[1]


class Best(NamedTuple):
    """The best value of a measure, and the smallest score of a pair with which it is reached."""

    value: float
    threshold: float | None  # None for a finder of groups


def best_pair_threshold(pairs: ScoredPairs, truth: np.ndarray) -> Best:
    """Returns the best F1 of pairs over all distinct scores."""
    precision, recall, score = precision_recall(pairs, truth)
    if not len(score):
        return Best(0.0, np.inf)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = f1.argmax()
    return Best(float(f1[best]), float(score[best]))


def best_group_threshold(pairs: ScoredPairs, truth: np.ndarray) -> Best:
    """Returns the best adjusted Rand index of the connected components over all distinct scores.

    The components change only at the scores of a maximum spanning forest, at most N - 1 of them. Each edge
    joins two components, which changes two sums of the index (Hubert and Arabie, 1985).
    """
    levels, rank = np.unique(-pairs.score, return_inverse=True)
    shape = (len(truth),) * 2
    forest = minimum_spanning_tree(csr_array((rank + 1.0, (pairs.first, pairs.second)), shape=shape)).tocoo()
    counts = [Counter({group: 1}) for group in truth.tolist()]  # of true groups by component
    component = list(range(len(truth)))

    def root(image: int) -> int:
        while component[image] != image:
            component[image] = image = component[component[image]]
        return image

    both, found, true = 0, 0, int(_true(truth).sum())  # pairs that both, the components, the truth join
    best = Best(0.0 if true else 1.0, np.inf)  # without any pair
    order = np.argsort(forest.data)
    edges = zip(forest.row[order].tolist(), forest.col[order].tolist(), forest.data[order], strict=True)
    for level, at_once in itertools.groupby(edges, key=lambda edge: edge[2]):
        for first, second, _ in at_once:
            small, large = sorted((root(first), root(second)), key=lambda each: len(counts[each]))
            found += counts[small].total() * counts[large].total()
            both += sum(count * counts[large][group] for group, count in counts[small].items())
            counts[large].update(counts[small])
            component[small] = large
        chance = found * true / math.comb(len(truth), 2)
        most = (found + true) / 2
        value = (both - chance) / (most - chance) if most > chance else 1.0
        if value > best.value:
            best = Best(value, float(-levels[int(level) - 1]))
    return best


def group_measures(groups: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Returns adjusted Rand index, B-cubed (Bagga and Baldwin, 1998), largest group and their number."""
    groups = np.unique(groups, return_inverse=True)[1]
    common = contingency(groups, truth).tocoo()
    squares = common.data.astype(float) ** 2
    sizes, true_sizes = np.bincount(groups), np.bincount(truth)
    precision = float((squares / sizes[common.row]).sum() / len(truth))
    recall = float((squares / true_sizes[common.col]).sum() / len(truth))
    return {
        "adjusted_rand": float(adjusted_rand_score(truth, groups)),
        "b_cubed_precision": precision,
        "b_cubed_recall": recall,
        "b_cubed_f1": 2 * precision * recall / (precision + recall),
        "groups": len(sizes),
        "largest": int(sizes.max()),
    }
