"""The order in which training examples are drawn."""

import functools
import math
from collections.abc import Iterator

import numpy as np

from jaxnets.data.batch import Batch

Shard = tuple[int, int]  # the index of a process, and the number of processes


class EpochSampler:
    """Endless training batches of indices; each epoch has a new order, drawn from (seed, epoch).

    A batch has "index" int64[B], "epoch" int32[B] and "weight" float32[B] (ones). All processes draw the
    same global batch, and each takes its `shard`. The last batch of an epoch may be smaller; `drop_last`
    omits it.

    With `labels` int[N] of the indices, an epoch draws as many examples with replacement, every class with
    the same probability, as PyTorch's WeightedRandomSampler does. Batches then have "repetition" int32[B]:
    how often the epoch has drawn an example before, so that it is augmented in another way.
    """

    def __init__(
        self,
        indices: np.ndarray,
        batch_size: int,
        seed: int,
        *,
        drop_last: bool,
        shard: Shard = (0, 1),
        labels: np.ndarray | None = None,
    ):
        round_steps = math.floor if drop_last else math.ceil
        self.steps_per_epoch = round_steps(len(indices) / batch_size)
        self._indices, self._shard = np.asarray(indices, np.int64), shard
        self._batch_size, self._seed = batch_size, seed
        self._order = functools.lru_cache(maxsize=2)(self._draw)
        self._probabilities = None if labels is None else _balanced_probabilities(labels)

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        epoch, step = divmod(step, self.steps_per_epoch)
        rows = range(len(self._indices))[step * self._batch_size : (step + 1) * self._batch_size]
        shard, count = self._shard
        size = len(rows) // count
        local = slice(rows.start + shard * size, rows.start + (shard + 1) * size)
        drawn = {name: values[local] for name, values in self._order(epoch).items()}
        return index_batch(drawn["index"], epoch) | drawn

    def example_batches(self) -> Iterator[Batch]:
        """One batch of every size, large to small, filled with the example 0.

        All batches of this process have one size, or two if the last batch of an epoch is smaller.
        """
        sizes = {len(self.batch(step)["index"]) for step in (0, self.steps_per_epoch - 1)}
        for size in sorted(sizes, reverse=True):
            zeros = {name: np.zeros(size, values.dtype) for name, values in self._order(0).items()}
            yield index_batch(zeros["index"]) | zeros

    def _draw(self, epoch: int) -> Batch:
        generator = np.random.default_rng((self._seed, epoch))
        if self._probabilities is None:
            return {"index": generator.permutation(self._indices)}
        order = generator.choice(self._indices, len(self._indices), p=self._probabilities)
        return {"index": order, "repetition": _count_earlier(order)}


def _balanced_probabilities(labels: np.ndarray) -> np.ndarray:
    """Probabilities of examples, float64[N], with which each class of `labels` int[N] is equally probable."""
    weights = 1 / np.bincount(labels)[labels]
    return weights / weights.sum()


def _count_earlier(values: np.ndarray) -> np.ndarray:
    """How often each value occurs before its position, int32[N]."""
    _, counts = np.unique(values, return_counts=True)
    earlier = np.empty(len(values), np.int32)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    earlier[np.argsort(values, kind="stable")] = np.arange(len(values)) - starts
    return earlier


def index_batch(indices: np.ndarray, epoch: int = 0) -> Batch:
    """A batch of indices without the examples, of weight 1."""
    size = len(indices)
    return {"index": indices, "epoch": np.full(size, epoch, np.int32), "weight": np.ones(size, np.float32)}
