"""From a source and indices to batches, through grain: random access, seeded order, threads."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from jaxnets.data.cache import CachedSource, gather
from jaxnets.data.source import Source

Batch = dict[str, np.ndarray]
BUFFERED_BATCHES = 2
"""Batches that each reader thread holds ready."""


class TrainBatches:
    """Shuffled batches for ever, from any step on: every epoch a new order, drawn from (seed, epoch).

    A batch has the source's fields with a leading [B], "epoch" int32[B] and "weight" float32[B] (ones).
    Every process draws the same global batch and reads `share` of it. An epoch's last batch may be
    short; `drop_last` leaves it out.
    """

    def __init__(
        self,
        source: Source | CachedSource,
        indices: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        drop_last: bool,
        threads: int,
        shares: tuple[int, int] = (0, 1),
    ):
        rounded = math.floor if drop_last else math.ceil
        self.steps_per_epoch = rounded(len(indices) / batch_size)
        self._source, self._indices, self._shares = source, indices, shares
        self._batch_size, self._seed = batch_size, seed
        # grain's own shuffle draws one index at a time, at 0.1 ms each: more than reading the image.
        self._order = functools.lru_cache(maxsize=2)(self._draw_order)
        dataset = grain.MapDataset.range(self.steps_per_epoch).repeat().map_with_index(self._read)
        self._iterator = iter(dataset.to_iter_dataset(_read_options(threads)))

    def _draw_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, epoch)).permutation(self._indices)

    def _read(self, step: int, step_of_epoch: int) -> Batch:
        epoch, start = step // self.steps_per_epoch, step_of_epoch * self._batch_size
        whole = self._order(epoch)[start : start + self._batch_size]
        number, count = self._shares
        each = len(whole) // count
        mine = whole[number * each : (number + 1) * each]
        batch = gather(self._source, mine)
        batch["epoch"] = np.full(len(mine), epoch, np.int32)
        batch["weight"] = np.ones(len(mine), np.float32)
        return batch

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

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
    """Every example once, in order; the last batch is filled up with examples of weight 0.

    With `shares` (number, count) each process reads its part of each global batch; `count` divides it.
    """
    number, count = shares
    each = batch_size // count

    def read(start: int) -> Batch:
        places = np.arange(start + number * each, start + (number + 1) * each)
        weight = (places < len(indices)).astype(np.float32)
        batch = gather(source, indices[np.minimum(places, len(indices) - 1)])
        batch["epoch"] = np.zeros(each, np.int32)
        batch["weight"] = weight
        return batch

    starts = grain.MapDataset.range(0, len(indices), batch_size)
    return iter(starts.map(read).to_iter_dataset(_read_options(threads)))


def _read_options(threads: int) -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads * BUFFERED_BATCHES)
