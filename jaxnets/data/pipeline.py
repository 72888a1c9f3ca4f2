"""From a source and an order to batches on the host, through grain: random access, threads, a position."""

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from jaxnets.data.cache import CachedSource, gather
from jaxnets.data.sampler import Batch, EpochSampler, padded_eval_batches
from jaxnets.data.sources.base import Source

BUFFERED_BATCHES = 2
"""Batches that each reader thread holds ready."""


class TrainBatches:
    """Batches of the source's fields, each with a leading [B], in the order of an `EpochSampler`."""

    def __init__(self, source: Source | CachedSource, order: EpochSampler, *, threads: int):
        self._source, self._order = source, order
        # grain's own shuffle draws one index at a time, at 0.1 ms each: more than reading the image.
        dataset = grain.MapDataset.range(order.steps_per_epoch).repeat().map_with_index(self._read)
        self._iterator = iter(dataset.to_iter_dataset(_read_options(threads)))

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return self._order.steps_per_epoch

    def _read(self, step: int, step_of_epoch: int) -> Batch:
        del step_of_epoch
        batch = self._order.batch(step)
        return {**batch, **gather(self._source, batch["index"])}

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def next_batches(self, most: int) -> tuple[Batch, int]:
        """The batch of the next call, which is one step's whatever the `most`."""
        del most
        return next(self), 1

    def example_batches(self) -> Iterator[Batch]:
        """A batch of every shape that will come; its examples are one example again and again."""
        one = gather(self._source, np.array([0]))
        for size in sorted(self._order.sizes(), reverse=True):
            batch = {name: np.repeat(values, size, axis=0) for name, values in one.items()}
            yield {**batch, "epoch": np.zeros(size, np.int32), "weight": np.ones(size, np.float32)}

    def state(self) -> dict[str, Any]:
        """The position, as JSON; it counts batches handed out, not those read ahead."""
        return self._iterator.get_state()

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a position."""
        self._iterator.set_state(state)


def eval_batches(
    source: Source | CachedSource,
    indices: np.ndarray,
    *,
    batch_size: int,
    threads: int,
    shares: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """The batches of `padded_eval_batches` with the source's fields."""
    batches = list(padded_eval_batches(indices, batch_size=batch_size, shares=shares))

    def read(number: int) -> Batch:
        return {**batches[number], **gather(source, batches[number]["index"])}

    numbers = grain.MapDataset.range(len(batches))
    return iter(numbers.map(read).to_iter_dataset(_read_options(threads)))


def _read_options(threads: int) -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads * BUFFERED_BATCHES)
