"""The naming of a network in another library, by rules for the paths of our modules."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str] | None], ...]
"""Arguments of re.sub, applied in order to a module's path; None marks modules that the library lacks."""


class Names(NamedTuple):
    """The naming of one network.

    An array named `key` identifies its files; it has this `shape` (None: any), and there are none of the
    arrays `absent`. The files are assumed to be of the first of `variants`: ours that the library supports,
    (None,) for a network without variants. `flattened`: the channels of the feature map before each dense
    layer that follows a flatten. `has_gamma`: the batch norms have one. `leaves`: the library's names of our
    arrays that no other network has. `channel_maps`: our arrays [C] that are [C, 1, 1] in the library.
    """

    rules: Rules
    key: str
    variants: tuple[str | None, ...] = (None,)
    flattened: Mapping[str, int] = {}
    has_gamma: bool = True
    leaves: Mapping[str, str] = {}
    channel_maps: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    absent: tuple[str, ...] = ()

    def match(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """Whether the arrays of a file are those of this network."""
        if self.key not in arrays or any(name in arrays for name in self.absent):
            return False
        return self.shape in (None, np.shape(arrays[self.key]))


def rename(rules: Rules, path: str) -> str | None:
    """Applies the rules to the path of a module."""
    for pattern, replacement in rules:
        if replacement is not None:
            path = re.sub(pattern, replacement, path)
        elif re.search(pattern, path):
            return None
    return path
