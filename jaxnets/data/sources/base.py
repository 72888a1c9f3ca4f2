"""What a source of examples is: random access, and nothing that depends on order of access."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

Example = dict[str, Any]
"""Kind "image": {"image": uint8[H, W, C], "label": int32[], "index": int64[]}.
Kind "vector": {"input": float[D], "label": float[K], "index": int64[]}."""


FEATURES = "features"
"""The field that stands for "image" where a frozen body has seen it already: what the body gave, float32."""


@runtime_checkable
class Source(Protocol):
    """Examples by their place, which is their `index` and never changes."""

    @property
    def name(self) -> str:
        """The name under which configs ask for it."""
        ...

    @property
    def kind(self) -> str:
        """Either "image" or "vector"."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes, by label; none where labels are vectors."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hex digest that changes when any example, label or their order does."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """int32[N]: every label, without reading an example; zeros where labels are vectors."""
        ...

    @property
    def files(self) -> Sequence[str]:
        """What to call each example in split.csv and in reports: a relative path, or a made-up name."""
        ...

    @property
    def official_split(self) -> Mapping[str, np.ndarray] | None:
        """Indices of the publisher's own split by name ("train", "test"), where there is one."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...
