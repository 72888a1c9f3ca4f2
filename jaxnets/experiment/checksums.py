"""checksums.json: the sha256 of each file of a run directory, and how these files are written.

For each file it lists the sha256 values that are valid; null means that the file may be missing. To replace a
file, `write_files` first lists both the old and the new sha256, then replaces the file, then lists only the
new one. Each step is atomic: after a kill at any moment every file is valid, and the run can be resumed.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NotRequired, TypedDict, cast

from jaxnets.errors import CheckpointError
from jaxnets.evaluation.predictions import FOLDER as PREDICTIONS
from jaxnets.evaluation.result import RESULT
from jaxnets.experiment.workdir import CONFIG, MANIFEST, SPLIT
from jaxnets.io import atomic_write, file_lock, read_regular
from jaxnets.schema import Length, Sha256, parse, problem
from jaxnets.training.callbacks.logs import METRICS

CHECKSUMS, LOCK = "checksums.json", ".checksums.lock"
AllowedHashes = Mapping[str, Sequence[str | None]]
"""The valid sha256 values by relative file name; None means that the file may be missing."""


class Checksums(TypedDict):
    """The content of checksums.json; `sha256` covers `files` and `unverified`.

    `unverified` names files that a later command listed: earlier changes to them cannot be detected.
    """

    schema_version: Literal[1]
    files: dict[str, Annotated[list[Sha256 | None], Length(1, 3)]]
    unverified: NotRequired[list[str]]
    sha256: Sha256


def read_hashes(directory: Path) -> AllowedHashes | None:
    """The hashes of checksums.json; None if it does not exist. Raises CheckpointError if it is damaged."""
    checksums = read_checksums(directory)
    return None if checksums is None else checksums["files"]


def read_checksums(directory: Path) -> Checksums | None:
    """checksums.json; None if it does not exist. Raises CheckpointError if it is damaged."""
    path = directory / CHECKSUMS
    try:
        data = read_regular(path)
        content = parse(data)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error})") from error
    if found := problem(content, Checksums):
        raise CheckpointError(f"{path} is damaged ({found})")
    checksums = cast(Checksums, content)
    if data.decode() != _to_json(checksums["files"], checksums.get("unverified", [])):
        raise CheckpointError(f"{path} is damaged (its own sha256 does not match)")
    return checksums


def damage(hashes: AllowedHashes | None, directory: Path, name: str, data: bytes | None) -> str | None:
    """How a file's bytes (None if it is missing) differ from `hashes`, or None; None without `hashes`."""
    if hashes is None:
        return None
    path, allowed = directory / name, hashes.get(name)
    if allowed is None:
        return None if data is None else f"{path} is not listed in {CHECKSUMS}"
    if data is None:
        return None if None in allowed else f"{path} is missing"
    return None if _sha256(data) in allowed else f"{path} has changed since it was written"


def write_files(directory: Path, contents: Mapping[str, str | bytes], *, final: Sequence[str] = ()) -> None:
    """Writes files of a run directory, in order, and lists them.

    If checksums.json is missing or damaged, the existing files are listed as unverified.

    Args:
        directory: the run directory.
        contents: text or bytes by relative file name.
        final: existing files that will not change any more; they are listed too.
    """
    encoded = {
        name: content.encode() if isinstance(content, str) else content for name, content in contents.items()
    }
    with file_lock(directory / LOCK):  # evaluation and training may write at the same time
        listed, unverified = _listed_before(directory)
        hashes = {name: list(allowed) for name, allowed in listed.items()}
        hashes |= {name: [_sha256_now(directory / name)] for name in final}
        after = {name: [_sha256(data)] for name, data in encoded.items()}
        before = {name: _sha256_now(directory / name) for name in encoded}
        both = {name: list(dict.fromkeys([before[name], *after[name]])) for name in encoded}
        atomic_write(directory / CHECKSUMS, _to_json({**hashes, **both}, unverified))
        for name, data in encoded.items():
            (directory / name).parent.mkdir(exist_ok=True)
            atomic_write(directory / name, data)
        unverified = [name for name in unverified if name not in (*after, *final)]
        atomic_write(directory / CHECKSUMS, _to_json({**hashes, **after}, unverified))


def _listed_before(directory: Path) -> tuple[AllowedHashes, list[str]]:
    """The listed hashes, and the names of unverified files."""
    with contextlib.suppress(CheckpointError):
        if (checksums := read_checksums(directory)) is not None:
            return checksums["files"], checksums.get("unverified", [])
    names = [CONFIG, MANIFEST, SPLIT]
    if (directory / RESULT).is_file():  # else metrics.jsonl is still being written
        predictions = sorted((directory / PREDICTIONS).glob("*.npz"))
        names += [METRICS, RESULT, *(f"{PREDICTIONS}/{path.name}" for path in predictions)]
    found = {name: _sha256_now(directory / name) for name in names}
    hashes = {name: [sha256] for name, sha256 in found.items() if sha256 is not None}
    return hashes, sorted(hashes)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha256_now(path: Path) -> str | None:
    try:
        return _sha256(read_regular(path))
    except FileNotFoundError:
        return None


def _to_json(files: AllowedHashes, unverified: Sequence[str]) -> str:
    """The canonical text: any changed byte is detected. Earlier versions have no `unverified`."""
    listed = {name: list(hashes) for name, hashes in files.items()}
    extra = {"unverified": sorted(unverified)} if unverified else {}
    digest = _sha256(json.dumps(listed | extra, sort_keys=True).encode())
    content = {"schema_version": 1, "files": listed, **extra, "sha256": digest}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
