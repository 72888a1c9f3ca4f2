"""Batches: every example once an epoch, a new order each, the same from any position."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnets.data.cache import open_cache
from jaxnets.data.pipeline import TrainBatches, eval_batches
from jaxnets.data.sampler import EpochSampler
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue

SOURCE = SyntheticTissue(40, 8)
INDICES = np.arange(3, 26)


def _train(*, batch_size: int = 5, drop_last: bool = False, threads: int = 2, shard=(0, 1), seed=0):
    order = EpochSampler(INDICES, batch_size=batch_size, seed=seed, drop_last=drop_last, shard=shard)
    return TrainBatches(SOURCE, order, threads=threads)


def _take(batches, count: int) -> list:
    return list(itertools.islice(batches, count))


def test_an_epoch_has_every_example_once_in_a_new_order() -> None:
    batches = _take(_train(), 10)
    epochs = [np.concatenate([b["index"] for b in batches[i : i + 5]]) for i in (0, 5)]
    for number, epoch in enumerate(epochs):
        np.testing.assert_array_equal(np.sort(epoch), INDICES)
        for batch in batches[5 * number : 5 * number + 5]:
            assert (batch["epoch"] == number).all()
    assert not np.array_equal(*epochs)
    assert [len(batch["index"]) for batch in batches[:5]] == [5, 5, 5, 5, 3]


def test_images_and_labels_belong_to_their_index() -> None:
    batch = next(_train())
    for row, index in enumerate(batch["index"]):
        np.testing.assert_array_equal(batch["image"][row], SOURCE[int(index)]["image"])
        assert batch["label"][row] == SOURCE.labels[index]
    assert batch["image"].dtype == np.uint8


def test_drop_last_omits_the_short_batch() -> None:
    batches = _train(drop_last=True)
    assert batches.steps_per_epoch == 4
    assert {len(batch["index"]) for batch in _take(batches, 9)} == {5}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("position", [0, 3, 7])
def test_resuming_gives_the_same_batches_with_any_threads(position: int, threads: int) -> None:
    whole = _take(_train(), 12)
    batches = _train()
    _take(batches, position)
    resumed = _train(threads=threads)
    resumed.restore(batches.state())
    for mine, expected in zip(_take(resumed, 12 - position), whole[position:], strict=True):
        for name in expected:
            np.testing.assert_array_equal(mine[name], expected[name])


def test_processes_share_the_global_batch() -> None:
    whole = _take(_train(batch_size=6, drop_last=True), 4)
    parts = [_take(_train(batch_size=6, drop_last=True, shard=(i, 3)), 4) for i in range(3)]
    for step, batch in enumerate(whole):
        joined = np.concatenate([part[step]["index"] for part in parts])
        np.testing.assert_array_equal(joined, batch["index"])


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 40), per_shard=st.integers(1, 12), shards=st.integers(1, 4))
def test_evaluation_counts_every_example_once(count: int, per_shard: int, shards: int) -> None:
    indices = np.arange(count)
    seen: list[np.ndarray] = []
    for number in range(shards):
        batches = eval_batches(
            SOURCE, indices, batch_size=per_shard * shards, threads=1, shard=(number, shards)
        )
        for batch in batches:
            assert len(batch["index"]) == per_shard
            seen.append(batch["index"][batch["weight"] == 1])
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), indices)


def test_the_cache_gives_the_same_batches(tmp_path: Path) -> None:
    cached = open_cache(SOURCE, tmp_path, 8)
    order = EpochSampler(INDICES, batch_size=5, seed=1, drop_last=False)
    plain, fast = (TrainBatches(source, order, threads=1) for source in (SOURCE, cached))
    for mine, expected in zip(_take(fast, 5), _take(plain, 5), strict=True):
        for name in expected:
            np.testing.assert_array_equal(mine[name], expected[name])
