"""The building blocks rely on NumPy's rules of broadcasting and type promotion."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def numpy_promotion() -> Iterator[None]:
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
