"""Which examples a step takes, without reading them: what every way to feed a network agrees on."""

import functools
import math
from collections.abc import Iterator

import numpy as np

Batch = dict[str, np.ndarray]


class EpochSampler:
    """The batches of training for ever, by step: every epoch a new order, drawn from (seed, epoch).

    A batch has "index" int64[B], "epoch" int32[B] and "weight" float32[B] (ones). Every process draws the
    same global batch and takes the share `shares` (number, count) of it. An epoch's last batch may be
    short; `drop_last` leaves it out.
    """

    def __init__(
        self,
        indices: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        drop_last: bool,
        shares: tuple[int, int] = (0, 1),
    ):
        rounded = math.floor if drop_last else math.ceil
        self.steps_per_epoch = rounded(len(indices) / batch_size)
        self._indices, self._shares = np.asarray(indices, np.int64), shares
        self._batch_size, self._seed = batch_size, seed
        self._epoch = functools.lru_cache(maxsize=2)(self._draw)

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        whole = self._global(step)
        number, count = self._shares
        each = len(whole) // count
        mine = whole[number * each : (number + 1) * each]
        return {
            "index": mine,
            "epoch": np.full(len(mine), step // self.steps_per_epoch, np.int32),
            "weight": np.ones(len(mine), np.float32),
        }

    def sizes(self) -> set[int]:
        """The sizes of this process's batches: one, or two where an epoch ends with a short one."""
        each = {len(self._global(step)) for step in (0, self.steps_per_epoch - 1)}
        return {size // self._shares[1] for size in each}

    def _global(self, step: int) -> np.ndarray:
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[place * self._batch_size : (place + 1) * self._batch_size]

    def _draw(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, epoch)).permutation(self._indices)


class IndexBatches:
    """Batches of example indices in the order of an `EpochSampler`, for data that stays on the device.

    A batch is [B] if `steps_per_execution` is 1, else [steps_per_execution, B]: the rows past the returned
    number of steps are padding with weight 0.
    """

    def __init__(self, order: EpochSampler, *, steps_per_execution: int = 1):
        self._order, self._at_once = order, steps_per_execution
        self._next = 0

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return self._order.steps_per_epoch

    def next_batches(self, most: int) -> tuple[Batch, int]:
        """The batch of the next call, and its steps: `most` at the most, all of one size."""
        parts = [self._order.batch(self._next)]
        while len(parts) < min(most, self._at_once):
            part = self._order.batch(self._next + len(parts))
            if len(part["index"]) != len(parts[0]["index"]):
                break  # an epoch's short batch is a call of its own
            parts.append(part)
        self._next += len(parts)
        return self._stacked(parts), len(parts)

    def example_batches(self) -> Iterator[Batch]:
        """A batch of every shape that will come; its examples are the first one again and again."""
        for size in sorted(self._order.sizes(), reverse=True):
            row = {
                "index": np.zeros(size, np.int64),
                "epoch": np.zeros(size, np.int32),
                "weight": np.ones(size, np.float32),
            }
            yield self._stacked([row])

    def state(self) -> dict[str, int]:
        """The position, as JSON, under the name that grain gives it."""
        return {"next_index": self._next}

    def restore(self, state: dict[str, int]) -> None:
        """Goes on from a position."""
        self._next = state["next_index"]

    def _stacked(self, parts: list[Batch]) -> Batch:
        if self._at_once == 1:
            return parts[0]
        empty = {name: np.zeros_like(values) for name, values in parts[0].items()}
        parts = parts + [empty] * (self._at_once - len(parts))
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def padded_eval_batches(
    indices: np.ndarray, *, batch_size: int, shares: tuple[int, int] = (0, 1)
) -> Iterator[Batch]:
    """Every example once, in order, for evaluation; the last batch is filled up with weight 0.

    With `shares` (number, count) each process takes its part of each global batch; `count` divides it.
    """
    number, count = shares
    each = batch_size // count
    for start in range(0, len(indices), batch_size):
        places = np.arange(start + number * each, start + (number + 1) * each)
        yield {
            "index": np.asarray(indices[np.minimum(places, len(indices) - 1)], np.int64),
            "epoch": np.zeros(each, np.int32),
            "weight": (places < len(indices)).astype(np.float32),
        }
