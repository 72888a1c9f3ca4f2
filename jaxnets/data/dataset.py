"""A source with its split: everything that batches are read from."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from jaxnets.data.batches import (
    EpochSampler,
    IndexBatches,
    Shard,
    TrainBatches,
    eval_batches,
    padded_eval_batches,
)
from jaxnets.data.cache import CachedSource, FeatureSource, gather
from jaxnets.data.sources.base import FEATURES, Source
from jaxnets.data.splits import Split


@dataclasses.dataclass(frozen=True)
class Batching:
    """How batches are made; sizes are over all processes, `threads` read examples."""

    batch_size: int
    eval_batch_size: int
    seed: int
    drop_last: bool
    threads: int


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
    def split_csv(self) -> str:
        """The content of split.csv."""
        return self.split.to_csv(self.source)

    @property
    def _inputs(self) -> Source:
        return self.features or self.source

    def examples(self) -> dict[str, np.ndarray]:
        """All examples in the source's order: inputs (or features) and labels."""
        source = self._inputs
        if isinstance(source, CachedSource):
            name = FEATURES if isinstance(source, FeatureSource) else "image"
            return {name: source.images, "label": np.asarray(source.labels, np.int32)}
        gathered = gather(source, np.arange(len(source)))
        return {name: values for name, values in gathered.items() if name != "index"}

    def sampler(self, shard: Shard) -> EpochSampler:
        """The order of this process's training examples."""
        batching = self.batching
        return EpochSampler(
            self.split.train,
            batch_size=batching.batch_size,
            seed=batching.seed,
            drop_last=batching.drop_last,
            shard=shard,
        )

    def train_batches(self, shard: Shard) -> TrainBatches:
        """The endless training batches of this process, read by threads."""
        return TrainBatches(self._inputs, self.sampler(shard), threads=self.batching.threads)

    def index_batches(self, shard: Shard, *, steps_per_execution: int) -> IndexBatches:
        """Training batches of indices only, for examples that are stored on the device."""
        return IndexBatches(self.sampler(shard), steps_per_execution=steps_per_execution)

    def eval_batches(
        self, indices: np.ndarray, shard: Shard = (0, 1), *, multiple_of: int = 1, on_device: bool = False
    ) -> Iterator[dict[str, Any]]:
        """The batches of this process for `indices` int64[N], each index once; the last is padded.

        The batch size is rounded up to a multiple of `multiple_of`. With `on_device` the batches lack the
        examples themselves, which are stored on the device.
        """
        size = -(-self.batching.eval_batch_size // multiple_of) * multiple_of
        if on_device:
            return padded_eval_batches(indices, batch_size=size, shard=shard)
        threads = self.batching.threads
        return eval_batches(self._inputs, indices, batch_size=size, threads=threads, shard=shard)


def _input_of(source: Source) -> np.ndarray:
    return source[0]["image" if source.kind == "image" else "input"]
