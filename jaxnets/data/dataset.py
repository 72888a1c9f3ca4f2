"""A source with its split, and the batches of its examples for training and evaluation."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jaxnets.data.batch import Batch
from jaxnets.data.cache import CachedSource, FeatureSource, gather
from jaxnets.data.sampler import EpochSampler, Shard, index_batch
from jaxnets.data.sources.base import Source
from jaxnets.data.splits import Split

if TYPE_CHECKING:
    import grain

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

    `group_ids` is int64[N], equal for near-duplicates and overlapping photographs, or for images of one group
    of the data; None if unknown.
    """

    source: Source
    split: Split
    batching: Batching
    group_ids: np.ndarray | None = None
    features: FeatureSource | None = None
    features_seconds: float | None = None

    @property
    def has_given_groups(self) -> bool:
        """Whether the groups are those of the data, such as patients, not near-duplicates that were found."""
        return self.source.groups is not None and not self.source.is_drawn

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

    def sampler(self, shard: Shard) -> EpochSampler:
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

    def images(self, indices: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
        """The images at `indices` int64[N], in order, in batches uint8[B, H, W, C] of up to `batch_size`."""
        for batch in eval_batches(self.source, indices, batch_size, threads=self.batching.threads):
            yield batch["image"][batch["weight"] > 0]


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
        batch = index_batch(np.asarray(indices[np.minimum(positions, len(indices) - 1)], np.int64))
        yield batch | {"weight": (positions < len(indices)).astype(np.float32)}


def _with_examples(source: Source, batch: Batch) -> Batch:
    return batch | gather(source, batch["index"])


def _read_in_threads(dataset: "grain.MapDataset[Batch]", threads: int) -> "grain.IterDataset[Batch]":
    import grain

    buffer = threads * BUFFERED_BATCHES
    return dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer))


def _input_of(source: Source) -> np.ndarray:
    return source[0]["image" if source.kind == "image" else "input"]
