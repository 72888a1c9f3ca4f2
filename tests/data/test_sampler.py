"""Batches of indices: those of the pipeline, however many steps a call takes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnets.data.cache import gather
from jaxnets.data.pipeline import TrainBatches
from jaxnets.data.sampler import Batch, EpochSampler, IndexBatches
from jaxnets.data.sources.synthetic_tissue import SyntheticTissue

SOURCE = SyntheticTissue(40, 8)
INDICES = np.arange(3, 26)


def _order(batch_size: int = 5, *, drop_last: bool = False, seed: int = 4) -> EpochSampler:
    return EpochSampler(INDICES, batch_size=batch_size, seed=seed, drop_last=drop_last)


def _steps(batches: IndexBatches, wanted: list[int]) -> list[Batch]:
    """The single steps of calls that want so many; what is no step has weight 0."""
    found = []
    for most in wanted:
        batch, count = batches.next_batches(most)
        assert 1 <= count <= most
        if batch["weight"].ndim == 1:
            found.append(batch)
            continue
        assert (batch["weight"][:count] == 1).all()
        assert (batch["weight"][count:] == 0).all()
        found += [{name: values[row] for name, values in batch.items()} for row in range(count)]
    return found


def test_the_pipeline_gives_the_same_indices_and_images() -> None:
    images = gather(SOURCE, np.arange(len(SOURCE)))
    pipeline = TrainBatches(SOURCE, _order(), threads=2)
    for mine, theirs in zip(
        _steps(IndexBatches(_order(), steps_per_execution=3), [3] * 7), pipeline, strict=False
    ):
        for name in ("index", "epoch", "weight"):
            np.testing.assert_array_equal(mine[name], theirs[name])
            assert mine[name].dtype == theirs[name].dtype
        for name in ("image", "label"):
            np.testing.assert_array_equal(images[name][mine["index"]], theirs[name])


@settings(max_examples=40, deadline=None)
@given(
    steps_per_execution=st.integers(1, 7),
    wanted=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    batch_size=st.integers(1, 23),
    drop_last=st.booleans(),
)
def test_steps_do_not_depend_on_steps_per_execution(
    steps_per_execution: int, wanted: list[int], batch_size: int, drop_last: bool
) -> None:
    order = _order(batch_size, drop_last=drop_last)
    steps = _steps(IndexBatches(order, steps_per_execution=steps_per_execution), wanted)
    for number, step in enumerate(steps):
        expected = order.batch(number)
        for name in expected:
            np.testing.assert_array_equal(step[name], expected[name])


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_resuming_matches_the_pipeline(steps_per_execution: int) -> None:
    batches, resumed = (IndexBatches(_order(), steps_per_execution=steps_per_execution) for _ in range(2))
    taken = len(_steps(batches, [2, 2, 2]))
    resumed.restore(batches.state())
    pipeline = TrainBatches(SOURCE, _order(), threads=1)
    list(itertools.islice(pipeline, taken))
    assert batches.state() == pipeline.state()
    expected = _order().batch(taken)
    np.testing.assert_array_equal(_steps(resumed, [1])[0]["index"], expected["index"])


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [5, 3]), (True, [5])])
@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_example_batches_have_every_shape(
    steps_per_execution: int, drop_last: bool, sizes: list[int]
) -> None:
    order = _order(drop_last=drop_last)
    foretold = {
        batch["index"].shape
        for batch in IndexBatches(order, steps_per_execution=steps_per_execution).example_batches()
    }
    batches = IndexBatches(order, steps_per_execution=steps_per_execution)
    assert foretold == {batches.next_batches(4)[0]["index"].shape for _ in range(12)}
    assert sorted(size for *_, size in foretold) == sorted(sizes)
    pipeline = TrainBatches(SOURCE, order, threads=1)
    message = [{name: v.dtype for name, v in batch.items()} for batch in pipeline.example_batches()]
    assert message[0] == {name: values.dtype for name, values in next(pipeline).items()}
