"""What a network with auxiliary heads gives in training."""

from typing import NamedTuple

import jax


class ModelOutput(NamedTuple):
    """The classifier's logits [B, classes], and those of each auxiliary head, nearest the input first."""

    main: jax.Array
    auxiliary: tuple[jax.Array, ...]
