"""Atomic checkpoints: orbax files, and a manifest of their hashes that is written last."""

import contextlib
import hashlib
import json
import os
import re
import resource
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import jax
import orbax.checkpoint as ocp

from jaxnets.errors import CheckpointError, MachineError
from jaxnets.io import DISK_FULL, atomic_write, file_sha256, read_regular
from jaxnets.schema import Count, Sha256, parse

FULL_IN_ORBAX = ("RESOURCE_EXHAUSTED", "No space left", "File too large")  # its errors have no errno
MANIFEST, HOST_STATE, SHAPES, STATE = "manifest.json", "host_state.json", "shapes.json", "state"


class FileRecord(TypedDict):
    """The size of a file, or of its first part, and the sha256 of those bytes."""

    bytes: Count
    sha256: Sha256


class Manifest(TypedDict):
    """A checkpoint's manifest.json."""

    files: dict[str, Sha256]  # by relative path
    run_files: dict[str, FileRecord]  # other files of the run
    sha256: Sha256


def file_record(path: Path) -> FileRecord:
    """Returns the record of a file, after an fsync."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return record_of(file.read())


def record_of(data: bytes) -> FileRecord:
    """Returns the record of a file with these bytes."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class Checkpoints:
    """The checkpoints of a run, one folder per step; the newest `keep` are retained, and the protected one.

    A folder without a manifest is an interrupted save: it is ignored, and the next save removes it.
    """

    def __init__(self, folder: Path, *, keep: int):
        self.folder = folder.absolute()  # orbax refuses relative paths
        self._keep = keep

    def steps(self) -> list[int]:
        """Returns the steps that have a manifest, ascending, without reading their files."""
        return sorted(int(path.name) for path in self._folders(finished=True))

    def save(
        self,
        step: int,
        state: Any,
        host_state: dict[str, Any],
        *,
        protect: int | None = None,
        run_files: Mapping[str, FileRecord] | None = None,
    ) -> None:
        """Writes a checkpoint synchronously, then removes old ones except step `protect`.

        `host_state` is JSON; the manifest has `run_files`. MachineError if the disk is full or read-only.
        """
        target, exists = self._path(step), step in self.steps()
        if exists and self.damage(step) is None:
            return
        if exists:
            self._remove(step)
        try:
            self._remove_unfinished()
            self.folder.mkdir(parents=True, exist_ok=True)
            _check_disk_space(target, sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
            with _checkpointer() as checkpointer:
                checkpointer.save(target / STATE, args=ocp.args.StandardSave(jax.device_get(state)))
            atomic_write(target / HOST_STATE, _to_json(host_state))
            atomic_write(target / SHAPES, _to_json(_shapes(state)))
            files = [path for path in target.rglob("*") if path.is_file()]
            hashes = {str(path.relative_to(target)): file_sha256(path) for path in files}
            content = {"files": hashes, "run_files": dict(run_files or {})}
            atomic_write(target / MANIFEST, _with_digest(content))
        except (OSError, ValueError) as error:
            with contextlib.suppress(OSError):
                self._remove_unfinished()
            raise _disk_error(error, target) from error
        # Later steps may exist: the run fell back to an earlier checkpoint.
        older = [saved for saved in self.steps() if saved <= step]
        for old in set(older[: -self._keep]) - {protect}:
            self._remove(old)

    def restore(self, step: int, template: Any) -> tuple[Any, dict[str, Any]]:
        """Returns (state, host_state); CheckpointError if a file or a shape of `template` differs."""
        path = self._path(step)
        if damage := self.damage(step):
            raise CheckpointError(f"checkpoint {path} is damaged: {damage}")
        saved, expected = parse(read_regular(path / SHAPES)), _shapes(template)
        for name in sorted(saved.keys() | expected.keys()):
            theirs, ours = saved.get(name, "missing"), expected.get(name, "missing")
            if theirs != ours:
                raise CheckpointError(
                    f"checkpoint {path} is of another network: {name} is {theirs} in the checkpoint and "
                    f"{ours} in the network"
                )
        arguments = ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, template))
        with _checkpointer() as checkpointer:
            state = checkpointer.restore(path / STATE, args=arguments)
        # orbax's arrays have the sharding of an empty mesh, which device_put alone would retain. As part of
        # the key of JAX's compilation cache it would cause every program to be compiled again.
        state = jax.device_put(jax.device_get(state))
        return state, json.loads((path / HOST_STATE).read_text())

    def latest_valid(self) -> tuple[int | None, list[str]]:
        """Returns the newest undamaged step, or None, and a message for each newer, damaged one."""
        messages = []
        for step in reversed(self.steps()):
            if not (damage := self.damage(step)):
                return step, messages
            messages.append(f"checkpoint {self._path(step)} is damaged: {damage}")
        return None, messages

    def run_files(self, step: int) -> Mapping[str, FileRecord]:
        """Returns the records of the run's other files; CheckpointError if the manifest is damaged."""
        try:
            return _read_manifest(self._path(step))["run_files"]
        except FileNotFoundError:
            return {}  # the run that is writing here has removed it
        except (OSError, ValueError) as error:
            path = self._path(step) / MANIFEST
            raise CheckpointError(f"{path} is damaged ({error}): restore it") from error

    def newest_fingerprint(self) -> dict[str, Any]:
        """Returns the determinism fingerprint of the newest readable checkpoint; {} without one."""
        for step in reversed(self.steps()):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                host_state = json.loads(read_regular(self._path(step) / HOST_STATE))
                return dict(host_state["determinism_fingerprint"])
        return {}

    def damage(self, step: int) -> str | None:
        """Returns what differs from the manifest, or None."""
        path = self._path(step)
        try:
            for name, expected in _read_manifest(path)["files"].items():
                if file_sha256(path / name) != expected:
                    return f"{name} has changed"
        except FileNotFoundError as error:
            return f"{Path(error.filename).name} is missing"
        except OSError as error:
            return f"{Path(error.filename or path).name} cannot be read ({error.strerror})"
        except ValueError as error:
            return f"{MANIFEST} is damaged ({error})"
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"{step:010d}"

    def _folders(self, *, finished: bool) -> list[Path]:
        """Returns the folders that have the name of a step, and a manifest or not."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if re.fullmatch(r"\d{10}", path.name)]
        return [path for path in found if path.is_dir() and (path / MANIFEST).exists() == finished]

    def _remove(self, step: int) -> None:
        (self._path(step) / MANIFEST).unlink()  # first: a partly removed folder is not a checkpoint
        shutil.rmtree(self._path(step))

    def _remove_unfinished(self) -> None:
        for path in self._folders(finished=False):
            shutil.rmtree(path)


def _check_disk_space(target: Path, needed: int) -> None:
    """Raises MachineError before orbax does, whose threads print tracebacks."""
    free = shutil.disk_usage(target.parent).free
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    needs = f"{target} needs {needed / 1e6:,.1f} MB, but"
    if free < needed:
        raise MachineError(f"{needs} {free / 1e6:,.1f} MB are free: free some space and run again")
    if resource.RLIM_INFINITY != limit < needed:
        limited = f"the file size limit is {limit / 1e6:,.1f} MB"
        raise MachineError(f"{needs} {limited}: raise it (ulimit -f) and run again")


def _checkpointer() -> ocp.Checkpointer:
    """Returns an orbax checkpointer of this process alone, without barriers."""
    index = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}"
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _to_json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _shapes(tree: Any) -> dict[str, str]:
    """Returns the shape of each array by path, as "float32[3, 4]"; orbax would cast and slice silently."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _with_digest(content: Mapping[str, Any]) -> str:
    """Returns the text of a manifest. It is canonical, so any changed byte is detected."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return _to_json({**content, "sha256": digest})


def _read_manifest(folder: Path) -> Manifest:
    """Returns a checkpoint's manifest; raises ValueError if it was modified or is inconsistent."""
    data = read_regular(folder / MANIFEST)
    content = parse(data, Manifest)
    if data.decode() != _with_digest({name: value for name, value in content.items() if name != "sha256"}):
        raise ValueError("it has changed")
    files, inside = content["files"], f"{os.path.realpath(folder)}/"
    if not all(os.path.realpath(folder / name).startswith(inside) for name in files):
        raise ValueError("it lists a file outside of the checkpoint")
    if not {HOST_STATE, SHAPES} <= files.keys() or not any(name.startswith(f"{STATE}/") for name in files):
        raise ValueError("it does not list all files of a checkpoint")
    return content


def _disk_error(error: Exception, target: Path) -> Exception:
    in_orbax = any(message in str(error) for message in FULL_IN_ORBAX)
    if in_orbax or getattr(error, "errno", None) in DISK_FULL:
        return MachineError(f"the disk is full: {target} was not saved; free some space and run again")
    if isinstance(error, OSError):
        return MachineError(f"{target} cannot be written: {error.strerror or error}")
    return error
