"""A source with its split, and the batches of its examples for training and evaluation."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jaxnets.data.cache import CachedSource, FeatureSource, gather
from jaxnets.data.sources.base import Batch, Source
from jaxnets.data.splits import Split

if TYPE_CHECKING:
    import grain

Shard = tuple[int, int]  # the index of a process, and the number of processes
BUFFERED_BATCHES = 2  # that each reader thread prefetches


@dataclasses.dataclass(frozen=True)
class Batching:
    """How batches are made; sizes are over all processes, `threads` read examples.

    With `balanced`, training batches contain every class equally often.
    """

    batch_size: int
    eval_batch_size: int
    seed: int
    drop_last: bool
    threads: int
    balanced: bool = False


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A source, its split, and the cached features of its images if the backbone is frozen.

    `group_ids` is int64[N], equal for near-duplicates and overlapping photographs; None if unknown.
    """

    source: Source
    split: Split
    batching: Batching
    group_ids: np.ndarray | None = None
    features: FeatureSource | None = None
    features_seconds: float | None = None

    @property
    def read_from(self) -> Literal["features", "memory", "cache", "decode"]:
        """Where examples are read from; the bits of a run may depend on it."""
        if self.features is not None:
            return "features"
        if self.source.kind == "vector":
            return "memory"
        return "cache" if isinstance(self.source, CachedSource) else "decode"

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example's input, [H, W, C] or [D]."""
        return _input_of(self.source).shape

    @property
    def nbytes(self) -> int:
        """The size of all inputs (or features) in bytes."""
        source = self._inputs
        if isinstance(source, CachedSource):
            return source.images.nbytes
        return len(source) * _input_of(source).nbytes

    @functools.cached_property
    def class_counts(self) -> np.ndarray:
        """The number of training examples of each class, int64[K]."""
        return np.bincount(self.source.labels[self.split.train], minlength=len(self.source.classes))

    @functools.cached_property
    def split_csv(self) -> str:
        """The content of split.csv."""
        return self.split.to_csv(self.source)

    @property
    def _inputs(self) -> Source:
        return self.features or self.source

    def examples(self) -> Batch:
        """All examples in the source's order: inputs (or features) and labels."""
        source = self._inputs
        if isinstance(source, CachedSource):
            return {source.field: source.images, "label": np.asarray(source.labels, np.int32)}
        gathered = gather(source, np.arange(len(source)))
        return {name: values for name, values in gathered.items() if name != "index"}

    def train_batches(self, shard: Shard) -> "TrainBatches":
        """The endless training batches of this process, read by threads."""
        return TrainBatches(self._inputs, self.sampler(shard), threads=self.batching.threads)

    def sampler(self, shard: Shard) -> "EpochSampler":
        """The order of this process's training examples."""
        how, indices = self.batching, self.split.train
        return EpochSampler(
            indices,
            how.batch_size,
            how.seed,
            drop_last=how.drop_last,
            shard=shard,
            labels=self.source.labels[indices] if how.balanced else None,
        )

    def eval_batches(
        self, indices: np.ndarray, shard: Shard = (0, 1), *, multiple_of: int = 1, on_device: bool = False
    ) -> Iterator[Batch]:
        """The batches of this process for `indices` int64[N], each index once; the last is padded.

        The batch size is rounded up to a multiple of `multiple_of`. With `on_device` the batches lack the
        examples themselves, which are stored on the device.
        """
        size = -(-self.batching.eval_batch_size // multiple_of) * multiple_of
        if on_device:
            return _padded_batches(indices, size, shard)
        return eval_batches(self._inputs, indices, size, threads=self.batching.threads, shard=shard)


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
        return _batch(drawn["index"], epoch) | drawn

    def example_batches(self) -> Iterator[Batch]:
        """One batch of every size, large to small, filled with the example 0.

        All batches of this process have one size, or two if the last batch of an epoch is smaller.
        """
        sizes = {len(self.batch(step)["index"]) for step in (0, self.steps_per_epoch - 1)}
        for size in sorted(sizes, reverse=True):
            zeros = {name: np.zeros(size, values.dtype) for name, values in self._order(0).items()}
            yield _batch(zeros["index"]) | zeros

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


class IndexBatches:
    """Batches of example indices from an `EpochSampler`, for data that is stored on the device.

    A batch is [B] if `steps_per_execution` is 1, else [steps_per_execution, B]: the rows past the returned
    number of steps are padding with weight 0.
    """

    def __init__(self, sampler: EpochSampler, *, steps_per_execution: int = 1):
        self._sampler, self._steps_per_execution = sampler, steps_per_execution
        self._next = 0

    def next_batches(self, max_steps: int) -> tuple[Batch, int]:
        """The next batch, and its number of steps: at most `max_steps`, all of one size."""
        steps = [self._sampler.batch(self._next)]
        while len(steps) < min(max_steps, self._steps_per_execution):
            step = self._sampler.batch(self._next + len(steps))
            if len(step["index"]) != len(steps[0]["index"]):
                break  # the small last batch of an epoch is executed separately
            steps.append(step)
        self._next += len(steps)
        return self._stack(steps), len(steps)

    def example_batches(self) -> Iterator[Batch]:
        """One batch of every shape, filled with the first example."""
        return (self._stack([step]) for step in self._sampler.example_batches())

    def state(self) -> dict[str, int]:
        """The position as JSON, as grain has it."""
        return {"next_index": self._next}

    def restore(self, state: dict[str, int]) -> None:
        """Resumes at a position."""
        self._next = state["next_index"]

    def _stack(self, steps: list[Batch]) -> Batch:
        if self._steps_per_execution == 1:
            return steps[0]
        padding = {name: np.zeros_like(values) for name, values in steps[0].items()}
        steps = steps + [padding] * (self._steps_per_execution - len(steps))
        return {name: np.stack([step[name] for step in steps]) for name in steps[0]}


class TrainBatches:
    """Batches of the source's fields, each with a leading [B], in the order of an `EpochSampler`."""

    def __init__(self, source: Source, sampler: EpochSampler, *, threads: int):
        import grain  # slow to import, and not every run needs it

        self._source, self._sampler = source, sampler
        # grain's own shuffle takes 0.1 ms per index, which is more than reading the image.
        steps = grain.MapDataset.range(sampler.steps_per_epoch).repeat().map_with_index(self._read)
        self._iterator = iter(_read_in_threads(steps, threads))

    def _read(self, step: int, step_of_epoch: int) -> Batch:
        del step_of_epoch
        return _with_examples(self._source, self._sampler.batch(step))

    def next_batches(self, max_steps: int = 1) -> tuple[Batch, int]:
        """The next batch, always for one step."""
        del max_steps
        return next(self._iterator), 1

    def example_batches(self) -> Iterator[Batch]:
        """One batch of every shape, filled with the first example."""
        one = gather(self._source, np.array([0]))
        for batch in self._sampler.example_batches():
            repeated = {name: np.repeat(values, len(batch["index"]), axis=0) for name, values in one.items()}
            yield batch | repeated

    def state(self) -> dict[str, Any]:
        """The position as JSON; it counts returned batches, not prefetched ones."""
        return self._iterator.get_state()

    def restore(self, state: dict[str, Any]) -> None:
        """Resumes at a position."""
        self._iterator.set_state(state)


def eval_batches(
    source: Source, indices: np.ndarray, batch_size: int, *, threads: int, shard: Shard = (0, 1)
) -> Iterator[Batch]:
    """Batches of the source's fields, every index once, in order; the last is padded with weight 0.

    Each process takes its `shard` of each global batch; the number of processes must divide `batch_size`.
    """
    import grain  # slow to import

    batches = list(_padded_batches(indices, batch_size, shard))
    read = grain.MapDataset.range(len(batches)).map(lambda number: _with_examples(source, batches[number]))
    return iter(_read_in_threads(read, threads))


def _padded_batches(indices: np.ndarray, batch_size: int, shard: Shard) -> Iterator[Batch]:
    shard_index, count = shard
    size = batch_size // count
    for start in range(0, len(indices), batch_size):
        positions = np.arange(start + shard_index * size, start + (shard_index + 1) * size)
        batch = _batch(np.asarray(indices[np.minimum(positions, len(indices) - 1)], np.int64))
        yield batch | {"weight": (positions < len(indices)).astype(np.float32)}


def _batch(indices: np.ndarray, epoch: int = 0) -> Batch:
    size = len(indices)
    return {"index": indices, "epoch": np.full(size, epoch, np.int32), "weight": np.ones(size, np.float32)}


def _with_examples(source: Source, batch: Batch) -> Batch:
    return batch | gather(source, batch["index"])


def _read_in_threads(dataset: "grain.MapDataset[Batch]", threads: int) -> "grain.IterDataset[Batch]":
    import grain

    buffer = threads * BUFFERED_BATCHES
    return dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer))


def _input_of(source: Source) -> np.ndarray:
    return source[0]["image" if source.kind == "image" else "input"]
