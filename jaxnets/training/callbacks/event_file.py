"""TensorBoard's event files, written without TensorFlow: records of Event messages, each with its checksums.

A record is its length (uint64), the masked CRC-32C of the length, the bytes, and their masked CRC-32C, little
endian: the TFRecord format. The bytes are an `Event` of TensorFlow's event.proto in protocol buffers'
encoding, of which the few fields that we need are written by hand.

References:
    https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/event.proto
    https://protobuf.dev/programming-guides/encoding/
"""

import re
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

BINS = 30
_NAME = re.compile(r"events\.out\.tfevents\.(\d{10})\.")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class EventFile:
    """One event file in a folder; each call hands its records to the operating system before it returns.

    So a killed process loses nothing that was written. Every method may raise OSError.
    """

    def __init__(self, folder: Path, *, first_step: int):
        """Makes the file. TensorBoard drops what older files have of `first_step` and later."""
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names: ours must be the last, whatever the clock.
        others = [int(found[1]) for path in folder.iterdir() if (found := _NAME.match(path.name))]
        seconds = max([int(time.time()), *(1 + other for other in others)])
        name = f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.from{first_step - 1}"
        self._file = (folder / name).open("xb")
        self._add(_field(3, b"brain.Event:2"))
        self._add(_field(2, first_step) + _field(7, _field(1, 1)))  # SessionLog, START
        self._file.flush()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a number by tag."""
        summary = b"".join(
            _field(1, _field(1, tag.encode()) + _field(2, np.float32(value)))
            for tag, value in values.items()
        )
        self._add(_field(2, step) + _field(5, summary))
        self._file.flush()

    def histogram(self, step: int, tag: str, values: np.ndarray) -> None:
        """Adds a histogram of the finite ones of `values`, in bins of equal width."""
        finite = np.asarray(values, np.float64).ravel()
        finite = finite[np.isfinite(finite)]
        if not finite.size:
            return
        counts, edges = np.histogram(finite, BINS)
        numbers = (finite.min(), finite.max(), finite.size, finite.sum(), np.square(finite).sum())
        histogram = b"".join(_field(place, float(value)) for place, value in enumerate(numbers, 1))
        histogram += _field(6, edges[1:].astype("<f8").tobytes())
        histogram += _field(7, counts.astype("<f8").tobytes())
        self._add(
            _field(2, step) + _field(5, _field(1, _field(1, tag.encode()) + _field(5, histogram)))
        )
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _add(self, event: bytes) -> None:
        event = _field(1, time.time()) + event
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))


def _field(number: int, value: int | float | np.float32 | bytes) -> bytes:
    """One field of a message: an integer, a double, a float, or bytes (text, a message, packed numbers)."""
    if isinstance(value, bytes):
        return _varint(number << 3 | _BYTES) + _varint(len(value)) + value
    if isinstance(value, np.float32):
        return _varint(number << 3 | _FIXED32) + struct.pack("<f", value)
    if isinstance(value, float):
        return _varint(number << 3 | _FIXED64) + struct.pack("<d", value)
    return _varint(number << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _table() -> tuple[int, ...]:
    """The CRC-32C (Castagnoli) of every byte."""
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return tuple(found)


_CRC = _table()


def _checksum(data: bytes) -> bytes:
    """The masked CRC-32C, as TFRecord files have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF)
