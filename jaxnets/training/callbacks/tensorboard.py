"""TensorBoard event files without TensorFlow: TFRecord files of Event messages.

References:
    https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/event.proto
    https://protobuf.dev/programming-guides/encoding/
"""

import contextlib
import functools
import re
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util

from jaxnets.errors import MachineError
from jaxnets.training.run import Callback, LogRecord, Run
from jaxnets.training.step import Metrics

FOLDER = "tensorboard"
BINS = 30
_NAME = re.compile(r"events\.out\.tfevents\.(\d{10})\.")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class TensorBoard(Callback):
    """Writes all records and, every `histograms_every` steps, histograms of the weights to tensorboard/."""

    per_step = False

    def __init__(self) -> None:
        self._events: EventFile | None = None

    def on_train_begin(self, run: Run) -> None:
        with _writing(run):
            self._events = EventFile(run.workdir / FOLDER, first_step=run.step + 1)

    def on_log(self, run: Run, record: LogRecord) -> None:
        assert self._events is not None
        values = {f"{record['split']}/{name}": value for name, value in record["values"].items()}
        if "images_per_second" in record:
            values["train/images_per_second"] = record["images_per_second"]
        with _writing(run):
            self._events.scalars(record["step"], values)

    def on_step_end(self, run: Run, metrics: Metrics) -> None:
        every = run.plan.histograms_every
        if self._events is None or not every or run.step % every:
            return
        weights = traverse_util.flatten_dict(jax.device_get(run.state.params), sep="/")
        with _writing(run):
            for name, values in weights.items():
                self._events.histogram(run.step, f"weights/{name}", np.asarray(values))

    def on_train_end(self, run: Run) -> None:
        if self._events is not None:
            with contextlib.suppress(OSError):  # a full disk has been reported
                self._events.close()
        self._events = None


@contextlib.contextmanager
def _writing(run: Run) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "free some space and run the same command again, or set --config.log.tensorboard=False"
        raise MachineError(
            f"{run.workdir / FOLDER} cannot be written ({error.strerror}): {remedy}"
        ) from error


class EventFile:
    """An event file, flushed after every call so that a killed process loses no record; may raise OSError."""

    def __init__(self, folder: Path, *, first_step: int):
        """Creates the file. TensorBoard ignores records of older files from `first_step` on."""
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names: the new one must be the last.
        others = [int(found[1]) for path in folder.iterdir() if (found := _NAME.match(path.name))]
        seconds = max([int(time.time()), *(1 + other for other in others)])
        name = f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.from{first_step - 1}"
        self._file = (folder / name).open("xb")
        self._add(_field(3, b"brain.Event:2"))
        self._add(_field(2, first_step) + _field(7, _field(1, 1)))  # SessionLog, START

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds scalars by tag."""
        summary = b"".join(
            _field(1, _field(1, tag.encode()) + _field(2, np.float32(value))) for tag, value in values.items()
        )
        self._add(_field(2, step) + _field(5, summary))

    def histogram(self, step: int, tag: str, values: np.ndarray) -> None:
        """Adds a histogram of the finite `values`, with bins of equal width."""
        finite = np.asarray(values, np.float64).ravel()
        finite = finite[np.isfinite(finite)]
        if not finite.size:
            return
        counts, edges = np.histogram(finite, BINS)
        numbers = (finite.min(), finite.max(), finite.size, finite.sum(), np.square(finite).sum())
        histogram = b"".join(_field(place, float(value)) for place, value in enumerate(numbers, 1))
        histogram += _field(6, edges[1:].astype("<f8").tobytes())
        histogram += _field(7, counts.astype("<f8").tobytes())
        self._add(_field(2, step) + _field(5, _field(1, _field(1, tag.encode()) + _field(5, histogram))))

    def close(self) -> None:
        self._file.close()

    def _add(self, event: bytes) -> None:
        """Writes a record: length, its checksum, the event with its time, its checksum."""
        event = _field(1, time.time()) + event
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))
        self._file.flush()


def _field(number: int, value: int | float | np.float32 | bytes) -> bytes:
    """Encodes a field: an integer, a double, a float, or bytes (text, a message or packed numbers)."""
    if isinstance(value, bytes):
        return _varint(number << 3 | _BYTES) + _varint(len(value)) + value
    if isinstance(value, np.float32):
        return _varint(number << 3 | _FIXED32) + struct.pack("<f", value)
    if isinstance(value, float):
        return _varint(number << 3 | _FIXED64) + struct.pack("<d", value)
    return _varint(number << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    """Encodes 7 bits per byte, lowest first; the eighth bit is set if more bytes follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


@functools.cache
def _crc_of_byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


def _checksum(data: bytes) -> bytes:
    """Returns the masked CRC-32C (Castagnoli) of the TFRecord format."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _crc_of_byte((crc ^ byte) & 0xFF)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF)
