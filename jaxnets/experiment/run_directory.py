"""Opens run directories: verifies checksums and validates every value."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ml_collections import config_dict

from jaxnets.errors import CheckpointError, ConfigError, DataError
from jaxnets.evaluation.predictions import FOLDER as PREDICTIONS
from jaxnets.evaluation.predictions import Predictions, read_predictions
from jaxnets.evaluation.result import RESULT, Result, from_json
from jaxnets.experiment import run_files, workdir
from jaxnets.experiment.run_files import UNUSABLE, Manifest
from jaxnets.experiment.workdir import CHECKPOINTS, CHECKSUMS, CONFIG, MANIFEST, SPLIT, AllowedHashes
from jaxnets.io import read_regular
from jaxnets.runtime import console
from jaxnets.training.callbacks.logs import METRICS
from jaxnets.training.checkpoint import Checkpoints, FileRecord

ATTEMPTS = 5
"""Attempts to open a directory that another process is writing to."""
REMEDY = "restore it from a backup, or use it anyway with --ignore_damage"


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A run directory; `manifest_or_none`, `split` and `result` are None until the run writes them.

    `warnings` are sentences for the user.
    """

    path: Path
    config: config_dict.ConfigDict
    manifest_or_none: Manifest | None
    split: str | None
    result: Result | None
    warnings: tuple[str, ...]
    ignore_damage: bool
    hashes: AllowedHashes | None

    @property
    def manifest(self) -> Manifest:
        """manifest.json; raises CheckpointError if it does not exist."""
        if self.manifest_or_none is None:
            raise CheckpointError(f"{self.path} is not a run directory ({MANIFEST} not found)")
        return self.manifest_or_none

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input: [H, W, C], or [D] for vectors."""
        return tuple(self.manifest["input_shape"])

    def checkpoints(self) -> Checkpoints:
        """The checkpoints of the run."""
        return Checkpoints(self.path / CHECKPOINTS, keep=self.config.checkpoint.keep)

    def predictions(self, part: str = "test") -> Predictions | None:
        """The stored predictions for a subset of the split; None if they were not written."""
        name = f"{PREDICTIONS}/{part}.npz"
        data = self.read_file(name)
        return None if data is None else read_predictions(data, self.path / name)

    def metrics(self, step: int | None = None) -> bytes:
        """metrics.jsonl; of an unfinished run, its lines up to checkpoint `step`.

        Raises CheckpointError if it has changed since it was written; with `ignore_damage` it warns instead.
        """
        recorded: FileRecord | None = None
        if self.result is None and step is not None:
            recorded = self.checkpoints().run_files(step).get(METRICS)

        def damage(data: bytes | None) -> str | None:
            if self.result is not None:
                return workdir.damage(self.hashes, self.path, METRICS, data)
            return run_files.metrics_damage(self.path / METRICS, data or b"", recorded)

        data = self._read(METRICS, damage) or b""
        return data if recorded is None else data[: recorded["bytes"]]

    def read_file(self, name: str) -> bytes | None:
        """A file that was listed when it was written; None if it is missing."""
        return self._read(name, lambda data: workdir.damage(self.hashes, self.path, name, data))

    def check_data(self, fingerprint: str) -> None:
        """Raises DataError if the run was started on data with another fingerprint."""
        manifest = self.manifest_or_none
        if manifest is not None and manifest["data_fingerprint"] != fingerprint:
            raise DataError(
                f"the data have changed since {self.path} was started: "
                "restore them or choose another --workdir"
            )

    def check_weights(self, backbone_sha256: str | None) -> None:
        """Raises CheckpointError if the run was started with another backbone (None: without weights)."""
        manifest = self.manifest_or_none
        if manifest is not None and manifest.get("backbone_sha256") != backbone_sha256:
            raise CheckpointError(
                f"--config.transfer.weights differ from those that {self.path} was started with: "
                "use the original weights, or choose another --workdir"
            )

    def check_split(self, text: str) -> None:
        """Raises DataError if split.csv exists and assigns an example differently; group ids may differ."""
        assignment = run_files.split_assignment
        if self.split is not None and assignment(self.split) != assignment(text):
            raise DataError(
                f"{self.path / SPLIT} does not match the data: files were added, removed or modified since "
                "the run was started; restore them or choose another --workdir"
            )

    def check_config(self, config: config_dict.ConfigDict) -> None:
        """Raises ConfigError, naming the fields that differ, if the run has another config."""
        if changed := run_files.describe_config_diff(self.config, config):
            raise ConfigError(
                f"{self.path} holds a run with another config ({changed}): "
                "choose another --workdir, or restore the old values"
            )

    def _read(self, name: str, damage: Callable[[bytes | None], str | None]) -> bytes | None:
        data = _read_or_none(self.path / name)
        _raise_or_warn(damage(data), ignore_damage=self.ignore_damage)
        return data


def open_run(directory: Path, *, data_root: str | None = None, ignore_damage: bool = False) -> RunDirectory:
    """Opens the directory of a finished or running run; `data_root` replaces data.root of its config.

    config.json, manifest.json, split.csv and result.json are each read once, compared with checksums.json,
    parsed and validated. The arrays of a checkpoint are verified when they are restored. Raises
    CheckpointError if it is not a run directory, or a file is damaged; with `ignore_damage` a file that does
    not match its checksum causes a warning, if it can be parsed and has valid values.
    """
    run = _open_consistently(directory, ignore_damage=ignore_damage)
    if data_root is None:
        return run
    config = config_dict.ConfigDict(cast(Any, run.config))
    config.data.root = data_root
    return dataclasses.replace(run, config=config_dict.FrozenConfigDict(config))


def _open_consistently(directory: Path, *, ignore_damage: bool) -> RunDirectory:
    for _ in range(ATTEMPTS - 1):
        before = _read_checksums_file(directory)
        try:
            run = _open(directory, ignore_damage=ignore_damage)
            if not run.warnings or before == _read_checksums_file(directory):
                return run
        except CheckpointError:
            if before == _read_checksums_file(directory):
                raise  # no other process wrote to it meanwhile
    return _open(directory, ignore_damage=ignore_damage)


def open_run_if_exists(directory: Path, *, ignore_damage: bool = False) -> RunDirectory | None:
    """Like `open_run`, but None for a directory in which no run has started."""
    if _read_or_none(directory / CONFIG) is None:
        if _read_or_none(directory / CHECKSUMS) is None:
            return None
        with contextlib.suppress(CheckpointError):
            # A run that was killed before it wrote config.json, its first file.
            if None in (workdir.read_hashes(directory) or {}).get(CONFIG, [None]):
                return None
    return open_run(directory, ignore_damage=ignore_damage)


def read_verified(directory: Path, name: str, *, ignore_damage: bool = False) -> bytes | None:
    """One file of a results folder, compared with checksums.json if that exists; None if it is missing."""
    data = _read_or_none(directory / name)
    try:
        found = workdir.damage(workdir.read_hashes(directory), directory, name, data)
    except CheckpointError as error:
        found = str(error)
    _raise_or_warn(found, ignore_damage=ignore_damage)
    return data


def read_result(directory: Path, *, ignore_damage: bool = False) -> Result | None:
    """The result of a finished run; None if it has not finished."""
    data = read_verified(directory, RESULT, ignore_damage=ignore_damage)
    return None if data is None else from_json(data, directory / RESULT)


def _raise_or_warn(found: str | None, *, ignore_damage: bool) -> None:
    if found and not ignore_damage:
        raise CheckpointError(f"{found}: {REMEDY}")
    if found:
        console.warn(found)


def _open(directory: Path, *, ignore_damage: bool) -> RunDirectory:
    found: list[str] = []
    hashes: AllowedHashes | None = None
    try:
        hashes = workdir.read_hashes(directory)
    except CheckpointError as error:
        found.append(str(error))
    files = {name: _read_or_none(directory / name) for name in (CONFIG, MANIFEST, SPLIT, RESULT)}
    if files[CONFIG] is None and (runs := sorted(directory.glob(f"*/{CONFIG}"))):
        example = runs[0].parent
        raise CheckpointError(f"{directory} contains runs and is not a run: choose one, such as {example}")
    if files[CONFIG] is None and not found and hashes is None:
        raise CheckpointError(f"{directory} is not a run directory ({CONFIG} not found)")
    damage = (workdir.damage(hashes, directory, name, data) for name, data in files.items())
    found += [text for text in damage if text]
    if hashes is None and not found:
        found.append(f"{directory / CHECKSUMS} is missing")
    if found and not ignore_damage:
        raise CheckpointError(f"{found[0]}: {_remedy(directory)}")
    if files[CONFIG] is None:
        raise CheckpointError(f"{directory / CONFIG} is missing: {UNUSABLE}")
    config = run_files.read_config(directory / CONFIG, files[CONFIG])
    manifest = split = result = None
    if (data := files[MANIFEST]) is not None:
        manifest = run_files.read_manifest(directory, data, config)
    if (data := files[SPLIT]) is not None:
        split = run_files.read_split(directory / SPLIT, data)
    if (data := files[RESULT]) is not None:
        result = run_files.read_result(directory / RESULT, data, config)
    return RunDirectory(directory, config, manifest, split, result, tuple(found), ignore_damage, hashes)


def _remedy(directory: Path) -> str:
    """The hint for a damaged directory: --ignore_damage is named only if it would help."""
    try:
        _open(directory, ignore_damage=True)
    except CheckpointError:
        return UNUSABLE
    return REMEDY


def _read_or_none(path: Path) -> bytes | None:
    """The bytes of a file, or None if it does not exist. Raises CheckpointError if it cannot be read."""
    try:
        return read_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): {UNUSABLE}") from error


def _read_checksums_file(directory: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return read_regular(directory / CHECKSUMS)
    return None
