"""The callback for Weights & Biases, offline."""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jaxnets
from examples.wandb_callback import WandbLogger
from jaxnets.errors import ConfigError

BLOCK, HEADER = 32768, struct.Struct("<IHB")
"""The blocks of W&B's file, a log of LevelDB, and the head of a chunk: checksum, length, kind."""
FULL, LAST = 1, 4


def _messages(data: bytes) -> Iterator[bytes]:
    """The messages of an offline file, which may have several chunks; its first 7 bytes are W&B's mark."""
    message, position = b"", 7
    while position + HEADER.size <= len(data):
        if BLOCK - position % BLOCK < HEADER.size:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(data, position)
        position += HEADER.size + length
        message += data[position - length : position]
        if kind in (FULL, LAST):
            yield message
            message = b""


def _history(workdir: Path) -> list[dict[str, float]]:
    """What a run logged offline, a dict for each step."""
    from wandb.proto import wandb_internal_pb2

    (path,) = workdir.glob("wandb/offline-run-*/*.wandb")
    records = map(wandb_internal_pb2.Record.FromString, _messages(path.read_bytes()))
    return [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]


@pytest.mark.slow
def test_every_record_is_logged(
    smoke_config: str, smoke_overrides: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    jaxnets.train(smoke_config, smoke_overrides, workdir=tmp_path / "run", callbacks=[WandbLogger()])
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    logged = _history(tmp_path / "run")
    assert len(lines) > 2
    for line in map(json.loads, lines):
        (found,) = (row for row in logged if row["_step"] == line["step"])
        assert found["epoch"] == line["epoch"]
        for name, value in line["values"].items():
            assert found[f"{line['split']}/{name}"] == pytest.approx(value)


def test_a_missing_package_is_named(
    smoke_config: str, smoke_overrides: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"needs the package wandb: pip install 'jaxnets\[wandb\]'"):
        jaxnets.train(smoke_config, smoke_overrides, workdir=tmp_path / "run", callbacks=[WandbLogger()])
