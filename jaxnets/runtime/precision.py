"""Double precision for single networks."""

import contextlib
from collections.abc import Iterator

import jax
from ml_collections import config_dict


@contextlib.contextmanager
def precision_of(model: config_dict.ConfigDict) -> Iterator[None]:
    """Enables double precision in the block if `model` (config.model) has dtype float64, else disables it.

    It affects only this thread.
    """
    with jax.enable_x64(model.dtype == "float64"):
        yield
