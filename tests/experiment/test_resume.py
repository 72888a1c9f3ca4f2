"""A resumed run compiles nothing again and is bit-exact."""

import json
from collections.abc import Iterator
from pathlib import Path

import chex
import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from training_runs import SignalAfterStep

import jaxnets
from jaxnets.errors import InterruptedRunError
from jaxnets.experiment.restore import restore_state
from jaxnets.experiment.run_directory import open_run


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """An empty compilation cache for one test."""
    before = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    folder = tmp_path / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    compilation_cache.reset_cache()
    yield folder
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


def _entries(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("*-cache")}


@pytest.mark.parametrize("on_device", ["yes", "no"])
def test_resume_compiles_nothing(
    smoke_config: str, smoke_overrides: dict, tmp_path: Path, cache: Path, on_device: str
) -> None:
    overrides = {**smoke_overrides, "data.on_device": on_device, "eval.use_best": True}
    jaxnets.train(smoke_config, overrides, workdir=tmp_path / "straight")
    fresh = _entries(cache)
    assert len(fresh) > 1  # the training and the evaluation step at least
    with pytest.raises(InterruptedRunError):
        jaxnets.train(
            smoke_config, overrides, workdir=tmp_path / "cut", callbacks=[SignalAfterStep(3, per_step=False)]
        )
    jaxnets.train(smoke_config, overrides, workdir=tmp_path / "cut")
    assert _entries(cache) - fresh == set()
    _assert_same_state(tmp_path / "straight", tmp_path / "cut")


def _assert_same_state(first: Path, second: Path) -> None:
    """The results and the tested states are identical."""
    tests = [json.loads((run / "result.json").read_text())["tests"] for run in (first, second)]
    assert tests[0] == tests[1]
    states = []
    for run in (first, second):
        states.append(restore_state(open_run(run)).state)
    chex.assert_trees_all_equal(*states)
