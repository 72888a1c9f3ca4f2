"""Damaged run directories: every changed bit and value is refused, said or without effect."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import damage
import pytest

import jaxnets
from jaxnets.errors import InterruptedRunError
from jaxnets.training.hooks import Hook

ONE_CHECKPOINT = {"checkpoint.keep": 1, "checkpoint.every_steps": 1}


class _StopAt(Hook):
    def __init__(self, step: int):
        self._step = step

    def step(self, run: Any, metrics: Any) -> None:
        if run.step == self._step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def finished(
    smoke_config: str, smoke_overrides: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run of one checkpoint; tests leave it as it is."""
    run = tmp_path_factory.mktemp("finished") / "run"
    jaxnets.train(smoke_config, {**smoke_overrides, **ONE_CHECKPOINT}, workdir=run)
    return _with_one_checkpoint(run)


@pytest.fixture(scope="module")
def interrupted(
    smoke_config: str, smoke_overrides: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that was stopped after its third step of four; tests leave it as it is."""
    run = tmp_path_factory.mktemp("interrupted") / "run"
    overrides = {**smoke_overrides, **ONE_CHECKPOINT, "log.every_steps": 1}
    with pytest.raises(InterruptedRunError):
        jaxnets.train(smoke_config, overrides, workdir=run, hooks=[_StopAt(3)])
    return _with_one_checkpoint(run)


def _with_one_checkpoint(run: Path) -> Path:
    """Without the best one, which is not read: what becomes of every change must be seen."""
    *others, _ = sorted((run / "checkpoints").iterdir())
    for folder in others:
        shutil.rmtree(folder)
    return run


def _check(count: damage.Count) -> None:
    print(f"\n{count.table()}")
    assert not count.bad


def test_with_ignore_damage_what_cannot_be_used_is_refused_all_the_same(finished: Path) -> None:
    count = damage.try_all(finished, damage.mutations, every=17, ignore_damage=True)
    assert min(count.total["refused"], count.total["warned"]) > 50
    _check(count)


@pytest.mark.parametrize("kind", ["finished", "interrupted"])
def test_some_of_all_changes(kind: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind)
    flips = damage.try_all(run, lambda path: damage.flips(path.read_bytes()), every=487)
    changes = damage.try_all(run, damage.mutations, every=29)
    for count in (flips, changes):
        assert count.total.total() > 100
        assert count.total["refused"] > 0.5 * count.total.total()
        _check(count)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["finished", "interrupted"])
def test_every_flipped_bit(kind: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind)
    _check(damage.try_all(run, lambda path: damage.flips(path.read_bytes())))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("ignore_damage", [False, True])
@pytest.mark.parametrize("kind", ["finished", "interrupted"])
def test_every_structural_change(
    kind: str, ignore_damage: bool, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(kind)
    _check(damage.try_all(run, damage.mutations, ignore_damage=ignore_damage))
