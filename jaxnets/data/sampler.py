"""Samples the example indices of each training step and evaluation batch."""

import functools
import math
from collections.abc import Iterator

import numpy as np

Batch = dict[str, np.ndarray]


class EpochSampler:
    """Endless training batches of indices; each epoch has a new order, drawn from (seed, epoch).

    A batch has "index" int64[B], "epoch" int32[B] and "weight" float32[B] (ones). All processes draw the
    same global batch, and each takes the part given by `shard` (index, count). The last batch of an epoch
    may be smaller; `drop_last` omits it.
    """

    def __init__(
        self,
        indices: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        drop_last: bool,
        shard: tuple[int, int] = (0, 1),
    ):
        round_steps = math.floor if drop_last else math.ceil
        self.steps_per_epoch = round_steps(len(indices) / batch_size)
        self._indices, self._shard = np.asarray(indices, np.int64), shard
        self._batch_size, self._seed = batch_size, seed
        self._epoch = functools.lru_cache(maxsize=2)(self._draw)

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

    def sizes(self) -> set[int]:
        """The batch sizes of this process: one, or two if the last batch of an epoch is smaller."""
        sizes = {len(self._global_batch(step)) for step in (0, self.steps_per_epoch - 1)}
        return {size // self._shard[1] for size in sizes}

    def _global_batch(self, step: int) -> np.ndarray:
        epoch, step = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[step * self._batch_size : (step + 1) * self._batch_size]

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

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch."""
        return self._sampler.steps_per_epoch

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
        for size in sorted(self._sampler.sizes(), reverse=True):
            step = {
                "index": np.zeros(size, np.int64),
                "epoch": np.zeros(size, np.int32),
                "weight": np.ones(size, np.float32),
            }
            yield self._stack([step])

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


def padded_eval_batches(
    indices: np.ndarray, *, batch_size: int, shard: tuple[int, int] = (0, 1)
) -> Iterator[Batch]:
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
