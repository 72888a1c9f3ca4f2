"""A run directory, opened: every file that is read is as it was written, and every value can be used."""

import contextlib
import csv
import dataclasses
import io
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar, cast

from ml_collections import config_dict

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.data.splits import PARTS, sha256
from jaxnets.errors import CheckpointError, ConfigError, DataError
from jaxnets.evaluation import result_schema
from jaxnets.evaluation.predictions import FOLDER as PREDICTIONS
from jaxnets.evaluation.predictions import Predictions, read_predictions
from jaxnets.evaluation.result_schema import RESULT, Result
from jaxnets.experiment import checksums, workdir
from jaxnets.experiment.checksums import CHECKSUMS, AllowedHashes
from jaxnets.experiment.workdir import CHECKPOINTS, CONFIG, MANIFEST, SPLIT
from jaxnets.io import read_regular
from jaxnets.schema import Length, Range, Sha256, parse, problem
from jaxnets.text import from_csv_cell, printable
from jaxnets.training.callbacks.writers import METRICS
from jaxnets.training.checkpoint import Checkpoints, FileRecord, record_of

T = TypeVar("T")
ATTEMPTS = 5
"""To open a directory that another process writes to."""
SPLIT_COLUMNS = ["index", "file", "label", "split", "group"]
REMEDY = "restore it from a copy, or use it all the same with --ignore_damage"
UNUSABLE = "restore it from a copy"


class Manifest(TypedDict):
    """manifest.json: what a run began with."""

    command: str
    versions: dict[str, str]
    hardware: str
    git_commit: str | None
    data: str
    classes: list[str]
    input_shape: Annotated[list[Annotated[int, Range(1, 2**20)]], Length(1, 3)]
    data_fingerprint: str
    backbone_sha256: NotRequired[Sha256 | None]
    split_sha256: Sha256


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A run directory of any age; `manifest_or_none`, `split` and `result` are None where it has none yet.

    `warnings` are what a person must know of it, a sentence each.
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
        """manifest.json; raises CheckpointError where there is none."""
        if self.manifest_or_none is None:
            raise CheckpointError(f"{self.path} is not a run directory: it has no {MANIFEST}")
        return self.manifest_or_none

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input: [H, W, C], or [D] of a vector."""
        return tuple(self.manifest["input_shape"])

    def checkpoints(self) -> Checkpoints:
        """The checkpoints of the run."""
        return Checkpoints(self.path / CHECKPOINTS, keep=self.config.checkpoint.keep)

    def predictions(self, part: str = "test") -> Predictions | None:
        """The stored answers to a part of the split; None where there are none."""
        name = f"{PREDICTIONS}/{part}.npz"
        data = self._read(name, lambda data: checksums.damage(self.hashes, self.path, name, data))
        return None if data is None else read_predictions(data, self.path / name)

    def metrics(self, step: int | None = None) -> bytes:
        """metrics.jsonl; of an unfinished run up to its checkpoint `step`, which recorded what stood there.

        Raises CheckpointError where it is not as it was written; with `ignore_damage` it says so instead.
        """
        recorded: FileRecord | None = None
        if self.result is None and step is not None:
            recorded = self.checkpoints().run_files(step).get(METRICS)

        def damage(data: bytes | None) -> str | None:
            if self.result is not None:
                return checksums.damage(self.hashes, self.path, METRICS, data)
            return _metrics_damage(self.path / METRICS, data or b"", recorded)

        data = self._read(METRICS, damage) or b""
        return data if recorded is None else data[: recorded["bytes"]]

    def require_data(self, fingerprint: str) -> None:
        """Raises DataError where the run began on data of other contents."""
        manifest = self.manifest_or_none
        if manifest is not None and manifest["data_fingerprint"] != fingerprint:
            raise DataError(
                f"the data are not those that {self.path} began with: contents have changed; "
                "restore them or choose another --workdir"
            )

    def require_weights(self, backbone_sha256: str | None) -> None:
        """Raises CheckpointError where the run began with another body; None where none was given."""
        manifest = self.manifest_or_none
        if manifest is not None and manifest.get("backbone_sha256") != backbone_sha256:
            raise CheckpointError(
                f"--config.transfer.weights are not those that {self.path} began with: "
                "give those, or choose another --workdir"
            )

    def require_split(self, text: str) -> None:
        """Raises DataError unless split.csv divides as `text`; what is known of groups may have grown."""
        if self.split is None or _division(self.split) != _division(text):
            raise DataError(
                f"{self.path / SPLIT} does not fit the data: files have come, gone or changed since the "
                "run began; restore them or choose another --workdir"
            )

    def require_same_config(self, config: config_dict.ConfigDict) -> None:
        """Raises ConfigError, naming the fields that differ, where the run is of another config."""
        changed = workdir.describe_config_diff(self.config, config)
        if changed:
            raise ConfigError(
                f"{self.path} holds a run of another recipe ({changed}): "
                "choose another --workdir, or give the old values"
            )

    def _read(self, name: str, damage: Callable[[bytes | None], str | None]) -> bytes | None:
        data = _read_or_none(self.path / name)
        if found := damage(data):
            if not self.ignore_damage:
                raise CheckpointError(f"{found}: {REMEDY}")
            print_warnings([found])
        return data


def open_run(directory: Path, *, ignore_damage: bool = False) -> RunDirectory:
    """Opens the directory of a run that is finished or under way.

    config.json, manifest.json, split.csv and result.json are read, each once; what they contain is compared
    with checksums.json and with what the newest checkpoint recorded of them, parsed and validated. The arrays
    of checkpoints are compared with their own manifest where they are restored.

    Args:
        directory: the run directory, or a folder of a finished run under results/.
        ignore_damage: what differs from its checksum is a warning, not an error. What cannot be used is
            refused all the same.

    Raises:
        CheckpointError: it is not a run directory, or a file, which is named, is damaged.
    """
    for _ in range(ATTEMPTS - 1):
        before = _checksums_now(directory)
        try:
            run = _open(directory, ignore_damage=ignore_damage)
            if not run.warnings or before == _checksums_now(directory):
                return run
        except CheckpointError:
            if before == _checksums_now(directory):
                raise  # nobody wrote in the meantime: it is as it is
    return _open(directory, ignore_damage=ignore_damage)


def open_run_if_exists(directory: Path, *, ignore_damage: bool = False) -> RunDirectory | None:
    """The same for a directory that may be new: None where it has neither config.json nor checksums.json."""
    names = (CONFIG, CHECKSUMS)
    if all(_read_or_none(directory / name) is None for name in names):
        return None
    if _read_or_none(directory / CONFIG) is None and _may_lack_config(directory):
        return None
    return open_run(directory, ignore_damage=ignore_damage)


def read_verified(directory: Path, name: str, *, ignore_damage: bool = False) -> bytes | None:
    """One file of a folder of results, compared with checksums.json where there is one; None without it."""
    data = _read_or_none(directory / name)
    try:
        found = checksums.damage(checksums.read_hashes(directory), directory, name, data)
    except CheckpointError as error:
        found = str(error)
    if found and not ignore_damage:
        raise CheckpointError(f"{found}: {REMEDY}")
    if found:
        print_warnings([found])
    return data


def read_result(directory: Path, *, ignore_damage: bool = False) -> Result | None:
    """The result of a finished run, alone; None where there is none."""
    data = read_verified(directory, RESULT, ignore_damage=ignore_damage)
    return None if data is None else result_schema.from_json(data, directory / RESULT)


def print_warnings(warnings: Iterable[str]) -> None:
    """Each on a line of standard error."""
    for warning in warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr, flush=True)


def _open(directory: Path, *, ignore_damage: bool) -> RunDirectory:
    found: list[str] = []
    hashes: AllowedHashes | None = None
    unverified: list[str] = []
    try:
        if recorded := checksums.read_checksums(directory):
            hashes, unverified = recorded["files"], recorded.get("unverified", [])
    except CheckpointError as error:
        found.append(str(error))
    files = {name: _read_or_none(directory / name) for name in (CONFIG, MANIFEST, SPLIT, RESULT)}
    if files[CONFIG] is None and not found and hashes is None:
        raise CheckpointError(f"{directory} is not a run directory: it has no {CONFIG}")
    found += _found_damage(directory, files, hashes)
    if found and not ignore_damage:
        raise CheckpointError(f"{found[0]}: {_remedy(directory)}")
    if files[CONFIG] is None:
        raise CheckpointError(f"{directory / CONFIG} is missing: {UNUSABLE}")
    config = _read_config(directory / CONFIG, files[CONFIG])
    manifest = _of(files[MANIFEST], lambda data: _read_manifest(directory, data, config))
    split = _of(files[SPLIT], lambda data: _read_split(directory / SPLIT, data))
    result = _of(files[RESULT], lambda data: _read_result(directory / RESULT, data, config))
    known = hashes is not None and SPLIT in hashes
    if manifest and split is not None and not known and sha256(split) != manifest["split_sha256"]:
        found.append(f"{directory / SPLIT} is not the file that {MANIFEST} records")
        if not ignore_damage:
            raise CheckpointError(f"{found[-1]}: {_remedy(directory)}")
    if hashes is None and not found:
        found.append(
            f"{directory} has no {CHECKSUMS}: it was made by an earlier version, and whether its files "
            "are as they were written is not known"
        )
    if unverified:
        found.append(
            f"{CHECKSUMS} of {directory} was written later than {', '.join(unverified)}: whether they "
            "changed before that is not known"
        )
    return RunDirectory(
        path=directory,
        config=config,
        manifest_or_none=manifest,
        split=split,
        result=result,
        warnings=tuple(found),
        ignore_damage=ignore_damage,
        hashes=hashes,
    )


def _remedy(directory: Path) -> str:
    """What a user can do with a damaged directory: `--ignore_damage` is of use only if it can be opened."""
    try:
        _open(directory, ignore_damage=True)
    except CheckpointError:
        return UNUSABLE
    return REMEDY


def _found_damage(
    directory: Path, files: Mapping[str, bytes | None], hashes: AllowedHashes | None
) -> list[str]:
    """The files that differ from checksums.json, or from what the newest checkpoint recorded of them."""
    recorded = Checkpoints(directory / CHECKPOINTS, keep=1).newest_run_files()
    found = []
    for name, data in files.items():
        if text := checksums.damage(hashes, directory, name, data):
            found.append(text)
        elif name in recorded and data is not None and record_of(data) != recorded[name]:
            found.append(f"{directory / name} is not the file that the newest checkpoint recorded")
    return found


def _read_config(path: Path, data: bytes) -> config_dict.ConfigDict:
    """A config that can be run: every field of its type and in its range, and of a network that exists."""
    try:
        if not isinstance(parse(data), dict):
            raise ValueError("it is not an object")
        config = config_lib.from_json(data.decode())
        for name, field in config_lib.FIELDS.items():
            value = config_lib.get_field(config, name)
            if value is not None and not _is_of_type(value, field.type):
                raise ValueError(f"{name} is {value!r}")
        config_lib.validate(config)
        models.create(config.model)
        if models.entry(config.model.name).kind == "image":
            models.check_image_size(config.model.name, config.data.image_size)
    except (ConfigError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} is damaged ({reason}): {UNUSABLE}") from error
    return config


def _is_of_type(value: Any, expected: type) -> bool:
    if expected is tuple:
        return isinstance(value, tuple) and not any(isinstance(each, bool) for each in value)
    if expected is float:
        return type(value) in (int, float)
    return type(value) is expected


def _read_manifest(directory: Path, data: bytes, config: config_dict.ConfigDict) -> Manifest:
    path = directory / MANIFEST
    try:
        content = parse(data)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}): {UNUSABLE}") from error
    found = problem(content, Manifest) or _unfit(cast(Manifest, content), config)
    if found:
        raise CheckpointError(f"{path} is damaged ({found}): {UNUSABLE}")
    return cast(Manifest, content)


def _unfit(manifest: Manifest, config: config_dict.ConfigDict) -> str | None:
    """Where a manifest and a config are not of one network, in words."""
    shape, classes, model = manifest["input_shape"], manifest["classes"], config.model
    if models.entry(model.name).kind == "vector":
        if shape != [model.layer_sizes[0]] or classes:
            return f"input_shape {shape} and {len(classes)} classes are not those of {CONFIG}"
        return None
    size = config.data.image_size
    if len(shape) != 3 or shape[:2] != [size, size] or shape[2] not in (1, 3):
        return f"input_shape is {shape}, and data.image_size of {CONFIG} {size}"
    if len(classes) != model.num_classes:
        return f"it has {len(classes)} classes, and {CONFIG} {model.num_classes}"
    if len(set(classes)) < len(classes):
        return "two classes have the same name"
    for name in ("mean", "std"):
        if len(config.data[name]) not in (1, shape[2]):
            return f"data.{name} of {CONFIG} must have 1 or {shape[2]} numbers"
    return None


def _read_split(path: Path, data: bytes) -> str:
    """The text of split.csv; CheckpointError where a line is not of one example of a part."""
    try:
        text = data.decode()
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        if next(rows, None) != SPLIT_COLUMNS:
            raise ValueError("unexpected header")
        for number, row in enumerate(rows, 2):
            if len(row) != len(SPLIT_COLUMNS) or not row[0].isdecimal() or row[3] not in PARTS:
                raise ValueError(f"line {number}")
    except (ValueError, csv.Error) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {UNUSABLE}") from error
    return text


def _read_result(path: Path, data: bytes, config: config_dict.ConfigDict) -> Result:
    result = result_schema.from_json(data, path)
    there = {
        "name": config.name,
        "model": config.model.name,
        "data": config.data.name,
        "seed": config.seed,
        "batch_size": config.train.batch_size,
    }
    for name, value in there.items():
        if result[name] != value:  # type: ignore[literal-required]
            raise CheckpointError(f"{path} is damaged ({name} is not that of {CONFIG}): {UNUSABLE}")
    return result


def _metrics_damage(path: Path, data: bytes, recorded: FileRecord | None) -> str | None:
    """Where the beginning of metrics.jsonl is not what a checkpoint recorded; lines may have come since."""
    if recorded is None:
        return None
    if len(data) < recorded["bytes"]:
        return f"{path} is shorter than the checkpoint recorded: lines are lost"
    if record_of(data[: recorded["bytes"]]) != recorded:
        return f"{path} has changed since the checkpoint was saved"
    return None


def _of(data: bytes | None, read: Callable[[bytes], T]) -> T | None:
    return None if data is None else read(data)


def _read_or_none(path: Path) -> bytes | None:
    """The bytes of a file; None where there is none. Raises CheckpointError where it cannot be read."""
    try:
        return read_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): {UNUSABLE}") from error


def _checksums_now(directory: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return read_regular(directory / CHECKSUMS)
    return None


def _may_lack_config(directory: Path) -> bool:
    """Whether a run was killed before config.json, its first file, was written."""
    with contextlib.suppress(CheckpointError):
        hashes = checksums.read_hashes(directory)
        return hashes is not None and None in hashes.get(CONFIG, [None])
    return False


def _division(text: str) -> list[list[str]]:
    """The rows of a split without their last column, the group, with formulas escaped or not."""
    rows = csv.reader(io.StringIO(text, newline=""))
    return [[from_csv_cell(cell) for cell in row[:-1]] for row in rows]
