"""Report A's four points: three numbers each, and the one that a network is to give for them."""

import hashlib
import operator
from collections.abc import Mapping

import numpy as np

from jaxnets import reported
from jaxnets.data.sources.base import Example


class Points:
    """The points, kind "vector": {"input": float64[3], "label": float64[1]}; there are no classes.

    All four train and all four test: a network is to fit them, and nothing is held back.
    """

    name = "points"
    kind = "vector"
    classes: tuple[str, ...] = ()

    def __init__(self) -> None:
        printed = reported.document("mlp_tanh")["data"]
        self._inputs = np.array(printed["X"], np.float64)
        self._values = np.array(printed["y"], np.float64)[:, None]
        self.labels = np.zeros(len(self._inputs), np.int32)
        for array in (self._inputs, self._values, self.labels):
            array.flags.writeable = False  # examples are views into them
        self.files = tuple(f"point {number}" for number in range(1, len(self) + 1))
        # As little-endian bytes, so that every machine has the same digest.
        digests = (array.astype("<f8").tobytes() for array in (self._inputs, self._values))
        self.fingerprint = hashlib.sha256(b"".join(digests)).hexdigest()

    @property
    def official_split(self) -> Mapping[str, np.ndarray]:
        """All of them in both parts."""
        return {part: np.arange(len(self)) for part in ("train", "test")}

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int) -> Example:
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"points: index {index} is not in [0, {len(self)})")
        return {
            "input": self._inputs[index],
            "label": self._values[index],
            "index": np.asarray(index, np.int64),
        }
