"""Loads batches on the host with grain: random access, reader threads, resumable."""

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from jaxnets.data.cache import CachedSource, gather
from jaxnets.data.sampler import Batch, EpochSampler, padded_eval_batches
from jaxnets.data.sources.base import Source

BUFFERED_BATCHES = 2
"""Batches that each reader thread prefetches."""


class TrainBatches:
    """Batches of the source's fields, each with a leading [B], in the order of an `EpochSampler`."""

    def __init__(self, source: Source | CachedSource, sampler: EpochSampler, *, threads: int):
        self._source, self._sampler = source, sampler
        # grain's own shuffle takes 0.1 ms per index, which is more than reading the image.
        dataset = grain.MapDataset.range(sampler.steps_per_epoch).repeat().map_with_index(self._read)
        self._iterator = iter(dataset.to_iter_dataset(_read_options(threads)))

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch."""
        return self._sampler.steps_per_epoch

    def _read(self, step: int, step_of_epoch: int) -> Batch:
        del step_of_epoch
        batch = self._sampler.batch(step)
        return {**batch, **gather(self._source, batch["index"])}

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def next_batches(self, max_steps: int) -> tuple[Batch, int]:
        """The next batch, always for one step."""
        del max_steps
        return next(self), 1

    def example_batches(self) -> Iterator[Batch]:
        """One batch of every shape, filled with the first example."""
        one = gather(self._source, np.array([0]))
        for size in sorted(self._sampler.sizes(), reverse=True):
            batch = {name: np.repeat(values, size, axis=0) for name, values in one.items()}
            yield {**batch, "epoch": np.zeros(size, np.int32), "weight": np.ones(size, np.float32)}

    def state(self) -> dict[str, Any]:
        """The position as JSON; it counts returned batches, not prefetched ones."""
        return self._iterator.get_state()

    def restore(self, state: dict[str, Any]) -> None:
        """Resumes at a position."""
        self._iterator.set_state(state)


def eval_batches(
    source: Source | CachedSource,
    indices: np.ndarray,
    *,
    batch_size: int,
    threads: int,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """`padded_eval_batches` with the source's fields."""
    batches = list(padded_eval_batches(indices, batch_size=batch_size, shard=shard))

    def read(number: int) -> Batch:
        return {**batches[number], **gather(source, batches[number]["index"])}

    numbers = grain.MapDataset.range(len(batches))
    return iter(numbers.map(read).to_iter_dataset(_read_options(threads)))


def _read_options(threads: int) -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads * BUFFERED_BATCHES)
