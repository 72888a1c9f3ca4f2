"""Double precision for the networks that ask for it, and for nothing else."""

import contextlib
from collections.abc import Iterator

import jax
from ml_collections import config_dict


@contextlib.contextmanager
def precision_of(model: config_dict.ConfigDict) -> Iterator[None]:
    """Turns JAX's double precision on where `model`, a section config.model, has it, and off elsewhere.

    In this thread alone, and afterwards it is as before: a run does not change what others compute.
    """
    with jax.enable_x64(model.dtype == "float64"):
        yield
