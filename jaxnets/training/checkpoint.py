"""Checkpoints that are whole or not there: orbax's files, and a manifest of their hashes written last."""

import contextlib
import hashlib
import json
import os
import re
import resource
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import jax
import orbax.checkpoint as ocp

from jaxnets.errors import CheckpointError, MachineError
from jaxnets.io import DISK_FULL, atomic_write, file_sha256, read_regular
from jaxnets.schema import Count, Sha256, parse, problem

FULL_IN_ORBAX = ("RESOURCE_EXHAUSTED", "No space left", "File too large")
"""How orbax, whose errors have no number, says that the disk is full."""
MANIFEST, HOST_STATE, SHAPES, STATE = "manifest.json", "host_state.json", "shapes.json", "state"


class FileRecord(TypedDict):
    """The first `bytes` bytes of a file, and their sha256."""

    bytes: Count
    sha256: Sha256


class Manifest(TypedDict):
    """A checkpoint's manifest.json: the sha256 of each of its files by relative path.

    `run_files` are files beside the checkpoints, by the name that the run gives them, as they were at the
    save; checkpoints of earlier versions have none.
    """

    files: dict[str, Sha256]
    run_files: NotRequired[dict[str, FileRecord]]
    sha256: Sha256


def file_record(path: Path) -> FileRecord:
    """What a checkpoint records of a file; it is on the disk afterwards, as the checkpoint will be."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return record_of(file.read())


def record_of(data: bytes) -> FileRecord:
    """The record of a file with these bytes."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class Checkpoints:
    """The checkpoints of a run, a folder a step: `state/` (orbax) and three JSON files.

    The newest `keep` stay, and those that are named. A folder without a manifest is a save that was cut
    short: it is no checkpoint, and the next save removes it.
    """

    def __init__(self, folder: Path, *, keep: int):
        self.folder = folder.absolute()  # orbax refuses relative paths
        self._keep = keep

    def steps(self) -> list[int]:
        """The steps that have a manifest, ascending. Their files are not looked at."""
        return sorted(int(path.name) for path in self._folders() if (path / MANIFEST).exists())

    def save(
        self,
        step: int,
        state: Any,
        host_state: dict[str, Any],
        *,
        protect: int | None = None,
        run_files: Mapping[str, FileRecord] | None = None,
    ) -> None:
        """Writes one checkpoint and waits for it; then lets go of old ones, but never of `protect`.

        `host_state` is what is not an array: JSON. `run_files` are recorded in the manifest. Raises
        MachineError where the disk is full or read-only.
        """
        target = self._path(step)
        if step in self.steps():
            if self.damage(step) is None:
                return
            self._remove(step)
        try:
            self._remove_unfinished()
            self._require_room(step, state)
            with _checkpointer() as checkpointer:
                checkpointer.save(target / STATE, args=ocp.args.StandardSave(jax.device_get(state)))
            atomic_write(target / HOST_STATE, _to_json(host_state))
            atomic_write(target / SHAPES, _to_json(_shapes(state)))
            atomic_write(target / MANIFEST, _manifest(target, run_files or {}))
        except (OSError, ValueError) as error:
            with contextlib.suppress(OSError):
                self._remove_unfinished()
            raise _disk_error(error, target) from error
        older = [one for one in self.steps() if one <= step]  # later ones are of before a fall-back
        for old in older[: -self._keep]:
            if old != protect:
                self._remove(old)

    def restore(self, step: int, template: Any) -> tuple[Any, dict[str, Any]]:
        """The state, in the shapes of `template`, and the position of one checkpoint.

        The arrays are placed as those of a fresh state are, so that programs compiled for it are used again.
        Raises CheckpointError where a byte has changed, or where it is another network's.
        """
        path = self._path(step)
        damage = self.damage(step)
        if damage:
            raise CheckpointError(f"checkpoint {path} is damaged: {damage}")
        difference = _first_difference(parse(read_regular(path / SHAPES)), _shapes(template))
        if difference:
            raise CheckpointError(f"checkpoint {path} is of another network: {difference}")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        with _checkpointer() as checkpointer:
            state = checkpointer.restore(path / STATE, args=ocp.args.StandardRestore(abstract))
        # orbax's arrays have the sharding of an empty mesh, which device_put alone would leave: it is
        # part of the key of JAX's compilation cache, and every program would be compiled again.
        state = jax.device_put(jax.device_get(state))
        return state, json.loads((path / HOST_STATE).read_text())

    def latest_valid(self) -> tuple[int | None, list[str]]:
        """The newest step whose every byte is as it was written, and what is wrong with newer ones."""
        damaged = []
        for step in reversed(self.steps()):
            damage = self.damage(step)
            if not damage:
                return step, damaged
            damaged.append(f"checkpoint {self._path(step)} is damaged: {damage}")
        return None, damaged

    def run_files(self, step: int) -> Mapping[str, FileRecord]:
        """What a checkpoint's manifest records of the run's other files; {} without a record or a manifest.

        Raises CheckpointError where the manifest cannot be read.
        """
        path = self._path(step)
        try:
            return _read_manifest(path).get("run_files", {})
        except FileNotFoundError:
            return {}  # a run that is under way has removed it since
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path / MANIFEST} is damaged ({error}): restore it") from error

    def newest_run_files(self) -> Mapping[str, FileRecord]:
        """The same of the newest checkpoint whose manifest is as it was written; its arrays are not read."""
        for step in reversed(self.steps()):
            with contextlib.suppress(CheckpointError):
                return self.run_files(step)
        return {}

    def newest_fingerprint(self) -> dict[str, Any]:
        """What the newest checkpoint says its bits depend on; {} where there is none that can be read."""
        for step in reversed(self.steps()):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                return dict(json.loads(read_regular(self._path(step) / HOST_STATE))["bits"])
        return {}

    def damage(self, step: int) -> str | None:
        """What differs from the manifest, or None."""
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
            return f"{MANIFEST} {error}"
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"{step:010d}"

    def _require_room(self, step: int, state: Any) -> None:
        # orbax itself fails too, but its threads then print their own tracebacks.
        self.folder.mkdir(parents=True, exist_ok=True)
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise MachineError(
                f"the disk is too full for {self._path(step)}: {needed / 1e6:,.1f} MB are needed, "
                f"{free / 1e6:,.1f} MB free; make room and run again"
            )

        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if limit != resource.RLIM_INFINITY and limit < needed:
            raise MachineError(
                f"{self._path(step)} needs {needed / 1e6:,.1f} MB, and files may have {limit / 1e6:,.1f} MB "
                "here: raise the limit (ulimit -f) and run again"
            )

    def _remove(self, step: int) -> None:
        # The manifest first: what is half removed is no checkpoint.
        (self._path(step) / MANIFEST).unlink()
        shutil.rmtree(self._path(step))

    def _folders(self) -> list[Path]:
        """The folders that were made by `save`, by their names; what else lies here is left alone."""
        if not self.folder.is_dir():
            return []
        named = (path for path in self.folder.iterdir() if re.fullmatch(r"\d{10}", path.name))
        return [path for path in named if path.is_dir()]

    def _remove_unfinished(self) -> None:
        for path in self._folders():
            if not (path / MANIFEST).exists():
                shutil.rmtree(path)


def _checkpointer() -> ocp.Checkpointer:
    """Orbax's writer and reader for this process alone: it waits for no other."""
    here = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"process{here}"
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _to_json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _shapes(tree: Any) -> dict[str, str]:
    """Every array by its path, as "float32[3, 4]". orbax casts and slices in silence; we compare."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _first_difference(there: dict[str, str], here: dict[str, str]) -> str | None:
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            return (
                f"{name} is {there.get(name, 'absent')} there and {here.get(name, 'absent')} here"
            )
    return None


def _manifest(folder: Path, run_files: Mapping[str, FileRecord]) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {str(path.relative_to(folder)): file_sha256(path) for path in files}
    return _with_digest({"files": hashes, "run_files": dict(run_files)})


def _with_digest(content: Mapping[str, Any]) -> str:
    """The text of a manifest; there is one text for one content, so that any changed byte is found.

    Manifests without `run_files` are of earlier versions, whose digest was of the files alone.
    """
    hashes = json.dumps(content if "run_files" in content else content["files"], sort_keys=True)
    digest = hashlib.sha256(hashes.encode()).hexdigest()
    return _to_json({**content, "sha256": digest})


def _read_manifest(folder: Path) -> Manifest:
    """A checkpoint's manifest; ValueError where it is not as it was written, or lists what it must not."""
    data = read_regular(folder / MANIFEST)
    try:
        content = parse(data)
    except ValueError as error:
        raise ValueError(f"cannot be read ({error})") from error
    found = problem(content, Manifest)
    if found:
        raise ValueError(f"is damaged ({found})")
    manifest = cast(Manifest, content)
    listed = {name: value for name, value in content.items() if name != "sha256"}
    if data.decode() != _with_digest(listed):
        raise ValueError("has changed")
    real = os.path.realpath(folder)
    for name in manifest["files"]:
        leaves = name.startswith("/") or ".." in name.split("/")
        if leaves or not os.path.realpath(folder / name).startswith(f"{real}/"):
            raise ValueError("lists a file outside of the checkpoint")
    state = [name for name in manifest["files"] if name.startswith(f"{STATE}/")]
    if not state or not {HOST_STATE, SHAPES} <= manifest["files"].keys():
        raise ValueError("does not list all files of a checkpoint")
    return manifest


def _disk_error(error: Exception, target: Path) -> Exception:
    full = getattr(error, "errno", None) in DISK_FULL
    if full or any(words in str(error) for words in FULL_IN_ORBAX):
        return MachineError(f"the disk is full: {target} was not saved; make room and run again")
    if isinstance(error, OSError):
        return MachineError(f"{target} cannot be written: {error.strerror or error}")
    return error
