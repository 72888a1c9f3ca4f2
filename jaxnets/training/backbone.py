"""Splits the parameters of a network into backbone and head."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jaxnets import models

Tree = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class BackboneHeadPartition:
    """The names of the modules that belong to the head; all others are the backbone."""

    head: frozenset[str]

    @classmethod
    def of(cls, model: nn.Module, shape: tuple[int, ...]) -> "BackboneHeadPartition":
        """The partition for inputs of `shape` [B, ...]; auxiliary heads belong to the head."""
        return cls(frozenset(models.head_modules(model, shape)))

    def split(self, tree: Tree) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns (head, backbone)."""
        head = {
            name: part
            for name, part in tree.items()
            if name in self.head or models.auxiliary_part({name: None})
        }
        return head, {name: part for name, part in tree.items() if name not in head}
