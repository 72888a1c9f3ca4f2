"""Batches of examples for training and evaluation: their order, and their reading with grain's threads."""

import functools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnets.data.cache import gather
from jaxnets.data.sources.base import Source

if TYPE_CHECKING:
    import grain

Batch = dict[str, np.ndarray]
Shard = tuple[int, int]  # the index of a process, and the number of processes
BUFFERED_BATCHES = 2  # that each reader thread prefetches


class EpochSampler:
    """Endless training batches of indices; each epoch has a new order, drawn from (seed, epoch).

    A batch has "index" int64[B], "epoch" int32[B] and "weight" float32[B] (ones). All processes draw the
    same global batch, and each takes the part given by `shard` (index, count). The last batch of an epoch
    may be smaller; `drop_last` omits it.
    """

    def __init__(
        self, indices: np.ndarray, *, batch_size: int, seed: int, drop_last: bool, shard: Shard = (0, 1)
    ):
        round_steps = math.floor if drop_last else math.ceil
        self.steps_per_epoch = round_steps(len(indices) / batch_size)
        self._indices, self._shard = np.asarray(indices, np.int64), shard
        self._batch_size, self._seed = batch_size, seed
        self._order = functools.lru_cache(maxsize=2)(self._draw)

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        global_batch = self._global_batch(step)
        shard, count = self._shard
        size = len(global_batch) // count
        return {
            "index": global_batch[shard * size : (shard + 1) * size],
            "epoch": np.full(size, step // self.steps_per_epoch, np.int32),
            "weight": np.ones(size, np.float32),
        }

    def example_batches(self) -> Iterator[Batch]:
        """One batch of every size, large to small, filled with the example 0.

        All batches of this process have one size, or two if the last batch of an epoch is smaller.
        """
        sizes = {len(self._global_batch(step)) // self._shard[1] for step in (0, self.steps_per_epoch - 1)}
        for size in sorted(sizes, reverse=True):
            yield {
                "index": np.zeros(size, np.int64),
                "epoch": np.zeros(size, np.int32),
                "weight": np.ones(size, np.float32),
            }

    def _global_batch(self, step: int) -> np.ndarray:
        epoch, step = divmod(step, self.steps_per_epoch)
        return self._order(epoch)[step * self._batch_size : (step + 1) * self._batch_size]

    def _draw(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, epoch)).permutation(self._indices)


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
        """The position as JSON, with grain's name for it."""
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
        for batch in self._sampler.example_batches():
            repeated = {name: np.repeat(values, len(batch["index"]), axis=0) for name, values in one.items()}
            yield {**batch, **repeated}

    def state(self) -> dict[str, Any]:
        """The position as JSON; it counts returned batches, not prefetched ones."""
        return self._iterator.get_state()

    def restore(self, state: dict[str, Any]) -> None:
        """Resumes at a position."""
        self._iterator.set_state(state)


def padded_eval_batches(indices: np.ndarray, *, batch_size: int, shard: Shard = (0, 1)) -> Iterator[Batch]:
    """Every example once, in order, for evaluation; the last batch is padded with weight 0.

    Each process takes the part `shard` (index, count) of each global batch; `count` must divide batch_size.
    """
    shard_index, count = shard
    size = batch_size // count
    for start in range(0, len(indices), batch_size):
        positions = np.arange(start + shard_index * size, start + (shard_index + 1) * size)
        yield {
            "index": np.asarray(indices[np.minimum(positions, len(indices) - 1)], np.int64),
            "epoch": np.zeros(size, np.int32),
            "weight": (positions < len(indices)).astype(np.float32),
        }


def eval_batches(
    source: Source, indices: np.ndarray, *, batch_size: int, threads: int, shard: Shard = (0, 1)
) -> Iterator[Batch]:
    """`padded_eval_batches` with the source's fields."""
    import grain  # slow to import

    batches = list(padded_eval_batches(indices, batch_size=batch_size, shard=shard))

    def read(number: int) -> Batch:
        return {**batches[number], **gather(source, batches[number]["index"])}

    return iter(_read_in_threads(grain.MapDataset.range(len(batches)).map(read), threads))


def _read_in_threads(dataset: "grain.MapDataset[Batch]", threads: int) -> "grain.IterDataset[Batch]":
    import grain

    buffer = threads * BUFFERED_BATCHES
    return dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer))
