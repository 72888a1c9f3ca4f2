"""Batches: epochs, shuffling, resuming, sharding and steps per call."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnets.data.batch import Batch
from jaxnets.data.cache import gather, open_cache
from jaxnets.data.dataset import IndexBatches, TrainBatches, eval_batches
from jaxnets.data.sampler import EpochSampler
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue

SOURCE = SyntheticTissue(40, 8)
INDICES = np.arange(3, 26)


def _order(batch_size: int = 5, *, drop_last: bool = False, seed: int = 4, shard=(0, 1)) -> EpochSampler:
    return EpochSampler(INDICES, batch_size=batch_size, seed=seed, drop_last=drop_last, shard=shard)


def _train(*, batch_size: int = 5, drop_last: bool = False, threads: int = 2, shard=(0, 1), seed=0):
    order = _order(batch_size, drop_last=drop_last, shard=shard, seed=seed)
    return TrainBatches(SOURCE, order, threads=threads)


def _take(batches, count: int) -> list:
    return [batches.next_batches()[0] for _ in range(count)]


def _assert_same_batches(actual: list[Batch], expected: list[Batch]) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_epochs_contain_every_example_once_in_a_new_order() -> None:
    batches = _take(_train(), 10)
    epochs = [np.concatenate([b["index"] for b in batches[i : i + 5]]) for i in (0, 5)]
    for number, epoch in enumerate(epochs):
        np.testing.assert_array_equal(np.sort(epoch), INDICES)
        for batch in batches[5 * number : 5 * number + 5]:
            assert (batch["epoch"] == number).all()
    assert not np.array_equal(*epochs)
    assert [len(batch["index"]) for batch in batches[:5]] == [5, 5, 5, 5, 3]


def test_images_and_labels_match_their_index() -> None:
    batch, _ = _train().next_batches()
    for row, index in enumerate(batch["index"]):
        np.testing.assert_array_equal(batch["image"][row], SOURCE[int(index)]["image"])
        assert batch["label"][row] == SOURCE.labels[index]
    assert batch["image"].dtype == np.uint8


def test_drop_last_omits_the_last_short_batch() -> None:
    batches = _train(drop_last=True)
    assert _order(drop_last=True).steps_per_epoch == 4
    assert {len(batch["index"]) for batch in _take(batches, 9)} == {5}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("position", [0, 3, 7])
def test_resuming_gives_the_same_batches_for_any_number_of_threads(position: int, threads: int) -> None:
    uninterrupted = _take(_train(), 12)
    batches = _train()
    _take(batches, position)
    resumed = _train(threads=threads)
    resumed.restore(batches.state())
    _assert_same_batches(_take(resumed, 12 - position), uninterrupted[position:])


def test_shards_form_the_global_batch() -> None:
    global_batches = _take(_train(batch_size=6, drop_last=True), 4)
    shards = [_take(_train(batch_size=6, drop_last=True, shard=(i, 3)), 4) for i in range(3)]
    for step, batch in enumerate(global_batches):
        joined = np.concatenate([shard[step]["index"] for shard in shards])
        np.testing.assert_array_equal(joined, batch["index"])


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 40), per_shard=st.integers(1, 12), shards=st.integers(1, 4))
def test_eval_batches_contain_every_example_once(count: int, per_shard: int, shards: int) -> None:
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


def test_cache_gives_the_same_batches(tmp_path: Path) -> None:
    cached = open_cache(SOURCE, tmp_path, 8)
    order = _order(seed=1)
    plain, fast = (TrainBatches(source, order, threads=1) for source in (SOURCE, cached))
    _assert_same_batches(_take(fast, 5), _take(plain, 5))


def _steps(batches: IndexBatches, max_steps: list[int]) -> list[Batch]:
    """Returns the batches of all steps, given the maximum of each call; asserts that padding has weight 0."""
    found = []
    for limit in max_steps:
        batch, count = batches.next_batches(limit)
        assert 1 <= count <= limit
        if batch["weight"].ndim == 1:
            found.append(batch)
            continue
        assert (batch["weight"][:count] == 1).all()
        assert (batch["weight"][count:] == 0).all()
        found += [{name: values[row] for name, values in batch.items()} for row in range(count)]
    return found


def test_index_batches_match_train_batches() -> None:
    images = gather(SOURCE, np.arange(len(SOURCE)))
    pipeline = TrainBatches(SOURCE, _order(), threads=2)
    for ours, theirs in zip(
        _steps(IndexBatches(_order(), steps_per_execution=3), [3] * 7), _take(pipeline, 21), strict=False
    ):
        for name in ("index", "epoch", "weight"):
            np.testing.assert_array_equal(ours[name], theirs[name])
            assert ours[name].dtype == theirs[name].dtype
        for name in ("image", "label"):
            np.testing.assert_array_equal(images[name][ours["index"]], theirs[name])


@settings(max_examples=40, deadline=None)
@given(
    steps_per_execution=st.integers(1, 7),
    max_steps=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    batch_size=st.integers(1, 23),
    drop_last=st.booleans(),
)
def test_batches_do_not_depend_on_steps_per_execution(
    steps_per_execution: int, max_steps: list[int], batch_size: int, drop_last: bool
) -> None:
    order = _order(batch_size, drop_last=drop_last)
    steps = _steps(IndexBatches(order, steps_per_execution=steps_per_execution), max_steps)
    for number, step in enumerate(steps):
        expected = order.batch(number)
        for name in expected:
            np.testing.assert_array_equal(step[name], expected[name])


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_index_batches_resume_like_train_batches(steps_per_execution: int) -> None:
    batches, resumed = (IndexBatches(_order(), steps_per_execution=steps_per_execution) for _ in range(2))
    taken = len(_steps(batches, [2, 2, 2]))
    resumed.restore(batches.state())
    pipeline = TrainBatches(SOURCE, _order(), threads=1)
    _take(pipeline, taken)
    assert batches.state() == pipeline.state()
    expected = _order().batch(taken)
    np.testing.assert_array_equal(_steps(resumed, [1])[0]["index"], expected["index"])


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [5, 3]), (True, [5])])
@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_example_batches_have_all_shapes(steps_per_execution: int, drop_last: bool, sizes: list[int]) -> None:
    order = _order(drop_last=drop_last)
    example_shapes = {
        batch["index"].shape
        for batch in IndexBatches(order, steps_per_execution=steps_per_execution).example_batches()
    }
    batches = IndexBatches(order, steps_per_execution=steps_per_execution)
    assert example_shapes == {batches.next_batches(4)[0]["index"].shape for _ in range(12)}
    assert sorted(size for *_, size in example_shapes) == sorted(sizes)
    pipeline = TrainBatches(SOURCE, order, threads=1)
    dtypes = [{name: v.dtype for name, v in batch.items()} for batch in pipeline.example_batches()]
    assert dtypes[0] == {name: values.dtype for name, values in pipeline.next_batches()[0].items()}


def test_balanced_sampling_repeats_small_classes() -> None:
    labels = np.repeat([0, 1], [90, 10])
    sampler = EpochSampler(
        np.arange(100), batch_size=30, seed=3, drop_last=False, shard=(1, 2), labels=labels
    )
    other = EpochSampler(np.arange(100), batch_size=30, seed=3, drop_last=False, shard=(0, 2), labels=labels)
    epoch = [each.batch(step) for step in range(4) for each in (other, sampler)]
    indices = np.concatenate([batch["index"] for batch in epoch])
    repetitions = np.concatenate([batch["repetition"] for batch in epoch])
    assert [len(batch["index"]) for batch in epoch] == [15] * 6 + [5] * 2
    assert 35 < (labels[indices] == 1).sum() < 65
    seen: dict[int, int] = {}
    for index, repetition in zip(indices.tolist(), repetitions.tolist(), strict=True):
        assert repetition == seen.get(index, 0)
        seen[index] = repetition + 1
    assert not np.array_equal(sampler.batch(4)["index"], sampler.batch(0)["index"])
    examples = list(sampler.example_batches())
    assert [{name: (len(v), v.dtype) for name, v in batch.items()} for batch in examples] == [
        {name: (len(v), v.dtype) for name, v in batch.items()} for batch in (epoch[1], epoch[-1])
    ]


def test_balanced_batches_are_the_same_from_memory_and_read_by_threads() -> None:
    def sampler() -> EpochSampler:
        labels = SOURCE.labels[INDICES]
        return EpochSampler(INDICES, batch_size=5, seed=4, drop_last=False, labels=labels)

    indices = IndexBatches(sampler())
    expected = [indices.next_batches(1)[0] for _ in range(7)]
    _assert_same_batches(_take(TrainBatches(SOURCE, sampler(), threads=2), 7), expected)
    several, count = IndexBatches(sampler(), steps_per_execution=3).next_batches(3)
    assert (count, several["repetition"].shape) == (3, (3, 5))
