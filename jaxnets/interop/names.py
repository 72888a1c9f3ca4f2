"""The naming of a network in another library, by rules for the paths of our modules."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str] | None], ...]
"""Arguments of re.sub, applied in order to a module's path; None marks modules that the library lacks."""


class Names(NamedTuple):
    """The naming of one network.

    An array named `key` identifies its files, unless they have the key of an earlier network. They are
    assumed to be of the first of `variants`: ours that the library supports, (None,) for a network without
    variants. `flattened`: the channels of the feature map before each dense layer that follows a flatten.
    `has_gamma`: the batch norms have one.
    """

    rules: Rules
    key: str
    variants: tuple[str | None, ...] = (None,)
    flattened: Mapping[str, int] = {}
    has_gamma: bool = True


def rename(rules: Rules, path: str) -> str | None:
    """Applies the rules to the path of a module."""
    for pattern, replacement in rules:
        if replacement is not None:
            path = re.sub(pattern, replacement, path)
        elif re.search(pattern, path):
            return None
    return path
