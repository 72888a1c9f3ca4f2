"""A network's two parts: the head, which is trained on any data anew, and the body before it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jaxnets import models

Tree = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class BackboneHeadPartition:
    """Which modules of a tree of parameters, statistics or gradients are the head's; the rest is the body."""

    head: frozenset[str]

    @classmethod
    def of(cls, model: nn.Module, shape: tuple[int, ...]) -> "BackboneHeadPartition":
        """The parts of a network for inputs [B, ...] of `shape`; auxiliary heads belong to the head."""
        found = models.head_modules(model, shape)
        return cls(frozenset(found))

    def split(self, tree: Tree) -> tuple[dict[str, Any], dict[str, Any]]:
        """Head and body; together they are the tree."""
        head = {name: part for name, part in tree.items() if self._in_head(name)}
        return head, {name: part for name, part in tree.items() if name not in head}

    def _in_head(self, name: str) -> bool:
        return name in self.head or bool(models.auxiliary_part({name: None}))
