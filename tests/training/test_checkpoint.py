"""Checkpoints are atomic, and every changed bit is detected."""

import errno
import json
import os
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxnets.errors import CheckpointError, MachineError
from jaxnets.training.checkpoint import MANIFEST, Checkpoints, file_record

HOST_STATE = {"step": 1, "data": {"next_index": 4}}


def _state(seed: int = 0, width: int = 5) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return {
        "step": jnp.asarray(seed),
        "params": {"w": jnp.asarray(generator.normal(size=(40, width)), jnp.float32)},
        "batch_stats": {},
        "ema": None,
        "key": jnp.asarray([1, 2], jnp.uint32),
    }


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", keep=2)


def test_save_and_restore(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, _state(7), HOST_STATE)
    state, host_state = checkpoints.restore(1, _state())
    chex.assert_trees_all_equal(state, _state(7))
    assert host_state == HOST_STATE


def test_newest_and_protected_checkpoints_are_retained(checkpoints: Checkpoints) -> None:
    for step in (1, 2, 3, 4, 5):
        checkpoints.save(step, _state(step), HOST_STATE, protect=2)
    assert checkpoints.steps() == [2, 4, 5]


def test_damaged_later_checkpoints_do_not_evict_a_new_one(checkpoints: Checkpoints) -> None:
    for step in (100, 200, 300):
        checkpoints.save(step, _state(step), HOST_STATE, protect=100)
    for step in (200, 300):
        (checkpoints.folder / f"{step:010d}" / "host_state.json").write_text("{")
    assert checkpoints.latest_valid()[0] == 100
    checkpoints.save(150, _state(150), HOST_STATE)
    assert checkpoints.steps() == [100, 150, 200, 300]
    assert checkpoints.latest_valid()[0] == 150


def test_any_flipped_bit_is_detected(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, _state(), HOST_STATE)
    assert checkpoints.damage(1) is None
    folder = checkpoints.folder / f"{1:010d}"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) > 5
    generator = np.random.default_rng(0)
    for trial in range(200):
        path = files[trial % len(files)]
        original = path.read_bytes()
        broken = bytearray(original)
        broken[generator.integers(len(original))] ^= 1 << int(generator.integers(8))
        path.write_bytes(broken)
        assert checkpoints.damage(1), f"{path.name} in trial {trial}"
        path.write_bytes(original)
    assert checkpoints.damage(1) is None


def test_missing_file_is_detected(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, _state(), HOST_STATE)
    next(path for path in (checkpoints.folder).rglob("d/*") if path.is_file()).unlink()
    assert "missing" in (checkpoints.damage(1) or "")
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoints.restore(1, _state())


def test_latest_valid_skips_a_damaged_checkpoint(checkpoints: Checkpoints) -> None:
    for step in (1, 2):
        checkpoints.save(step, _state(step), HOST_STATE)
    host_state = checkpoints.folder / f"{2:010d}" / "host_state.json"
    host_state.write_text(host_state.read_text().replace("4", "5"))
    step, damaged = checkpoints.latest_valid()
    assert step == 1
    assert len(damaged) == 1
    assert "host_state.json has changed" in damaged[0]


def test_folder_without_manifest_is_replaced(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, _state(), HOST_STATE)
    (checkpoints.folder / f"{2:010d}" / "state").mkdir(parents=True)
    assert checkpoints.latest_valid() == (1, [])
    checkpoints.save(2, _state(2), HOST_STATE)
    chex.assert_trees_all_equal(checkpoints.restore(2, _state())[0], _state(2))


def test_damaged_checkpoint_is_overwritten_at_its_step(checkpoints: Checkpoints) -> None:
    checkpoints.save(2, _state(2), HOST_STATE)
    host_state = checkpoints.folder / f"{2:010d}" / "host_state.json"
    host_state.write_text(host_state.read_text().replace("4", "5"))
    checkpoints.save(2, _state(3), HOST_STATE)
    assert checkpoints.damage(2) is None
    chex.assert_trees_all_equal(checkpoints.restore(2, _state())[0], _state(3))


def test_other_folders_are_not_checkpoints(checkpoints: Checkpoints) -> None:
    checkpoints.save(3, _state(), HOST_STATE)
    shutil.copytree(checkpoints.folder / f"{3:010d}", checkpoints.folder / "0000000003.bak")
    (checkpoints.folder / "2024-notes").mkdir()
    checkpoints.save(4, _state(), HOST_STATE)
    assert checkpoints.steps() == [3, 4]
    assert (checkpoints.folder / "2024-notes").is_dir()


def test_other_files_are_not_removed(checkpoints: Checkpoints) -> None:
    checkpoints.folder.mkdir()
    (checkpoints.folder / "notes.txt").write_text("mine")
    checkpoints.save(1, _state(), HOST_STATE)
    assert (checkpoints.folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {**state, "params": {"w": jnp.zeros((40, 6))}},
        lambda state: {**state, "params": {"v": jnp.zeros((40, 5))}},
        lambda state: {**state, "params": {**state["params"], "b": jnp.zeros(3)}},
        lambda state: {**state, "params": {}},
    ],
    ids=["shape", "name", "more", "fewer"],
)
def test_another_network_raises(checkpoints: Checkpoints, change: Any) -> None:
    checkpoints.save(1, _state(), HOST_STATE)
    with pytest.raises(CheckpointError, match="another network"):
        checkpoints.restore(1, change(_state()))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
        (ValueError("RESOURCE_EXHAUSTED: Failed writing"), "disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), "cannot be written"),
    ],
)
def test_disk_error_raises_and_keeps_the_last_checkpoint(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    checkpoints.save(1, _state(), HOST_STATE)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(ocp.Checkpointer, "save", fail)
    with pytest.raises(MachineError, match=message):
        checkpoints.save(2, _state(2), HOST_STATE)
    assert checkpoints.latest_valid() == (1, [])


def test_a_full_disk_is_detected_before_orbax_starts(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save(1, _state(), HOST_STATE)
    usage = SimpleNamespace(free=sum(leaf.nbytes for leaf in jax.tree.leaves(_state())) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(MachineError, match="needs .* MB, but .* MB are free: free some space"):
        checkpoints.save(2, _state(2), HOST_STATE)
    assert checkpoints.latest_valid() == (1, [])
    usage.free += 1
    checkpoints.save(2, _state(2), HOST_STATE)
    assert checkpoints.latest_valid() == (2, [])


def test_a_file_size_limit_is_detected_before_orbax_starts(checkpoints: Checkpoints) -> None:
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(_state()))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (needed - 1, before[1]))
    try:
        with pytest.raises(MachineError, match=r"the file size limit is .*: raise it \(ulimit -f\)"):
            checkpoints.save(1, _state(), HOST_STATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoints.steps() == []


def test_manifest_is_written_last(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    from jaxnets.training import checkpoint

    written: list[str] = []
    atomic_write = checkpoint.atomic_write
    monkeypatch.setattr(
        checkpoint, "atomic_write", lambda path, text: (written.append(path.name), atomic_write(path, text))
    )
    checkpoints.save(1, _state(), HOST_STATE)
    assert written[-1] == MANIFEST


def _change_manifest(folder: Path, change: Any) -> None:
    """Changes the list of files in a manifest, with a matching digest."""
    from jaxnets.training.checkpoint import _with_digest

    path = folder / MANIFEST
    content = json.loads(path.read_text())
    del content["sha256"]
    content["files"] = change(content["files"])
    path.write_text(_with_digest(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: {}, "does not list all files"),
        (lambda files: {"host_state.json": files["host_state.json"]}, "does not list all files"),
        (lambda files: {**files, "/dev/zero": "0" * 64}, "outside of the checkpoint"),
        (lambda files: {**files, "../../../dev/zero": "0" * 64}, "outside of the checkpoint"),
        (lambda files: {**files, "": "0" * 64}, "outside of the checkpoint"),
        (lambda files: {**files, "fifo": "0" * 64}, "it is a FIFO"),
        (lambda files: {**files, "device": "0" * 64}, "outside of the checkpoint"),
        (lambda files: {**files, "state": "0" * 64}, "Is a directory"),
    ],
)
def test_invalid_file_lists_in_a_manifest_are_detected(
    checkpoints: Checkpoints, change: Any, message: str
) -> None:
    checkpoints.save(1, _state(), HOST_STATE)
    folder = checkpoints.folder / f"{1:010d}"
    os.mkfifo(folder / "fifo")
    (folder / "device").symlink_to("/dev/zero")
    _change_manifest(folder, change)
    assert message in (checkpoints.damage(1) or "")
    assert checkpoints.latest_valid()[0] is None


def test_checkpoint_records_files_of_the_run(checkpoints: Checkpoints, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b"one\n")
    record = file_record(tmp_path / "metrics.jsonl")
    assert record["bytes"] == 4
    checkpoints.save(1, _state(), HOST_STATE, run_files={"metrics.jsonl": record})
    assert checkpoints.run_files(1) == {"metrics.jsonl": record}
