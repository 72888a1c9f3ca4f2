"""Initial weights match JAX's initializers and the stored hashes of earlier versions."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import config as config_lib
from jaxnets import models
from jaxnets.models import init_eqn_by_eqn
from jaxnets.ops import initializers

GOLDEN = Path(__file__).parent.parent / "golden" / "initial_weights.json"
SIZES = {"lenet5": 28, "inception_v3": 75, "inception_resnet_v2": 75}
"""Image sizes; the default is 32."""
KEY = 7


def digest(name: str, style: str) -> str:
    """Returns the first twelve digits of a hash of all initial weights, for three classes."""
    config = config_lib.default_config().model
    config.name, config.num_classes, config.init = name, 3, style
    size = SIZES.get(name, 32)
    variables = models.initialize(models.create(config), jax.random.key(KEY), (1, size, size, 3))
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        found.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return found.hexdigest()[:12]


@pytest.mark.slow
@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text()))
def test_initial_weights_match_the_golden_hashes(case: str) -> None:
    # In a new process, because the tests compile without optimisation, which rounds differently.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    program = f"import test_initialize as t; print(t.digest(*{case.split()!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == json.loads(GOLDEN.read_text())[case]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            initializers.scaled("normal", 2.0, "fan_out"),
            nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        ),
        (
            initializers.scaled("uniform", 1 / 3, "fan_in"),
            nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
        ),
        (initializers.scaled("uniform", 1.0, "fan_avg"), nn.initializers.glorot_uniform()),
        (initializers.normal(0.01), nn.initializers.normal(0.01)),
    ],
)
def test_initializers_match_jax(ours: initializers.Initializer, theirs: initializers.Initializer) -> None:
    shape = (3, 2, 5, 4)  # all sizes differ
    found, expected = (init(jax.random.key(KEY), shape, jnp.float32) for init in (ours, theirs))
    chex.assert_trees_all_close(found, expected, rtol=1e-6)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_a_draw_in_pieces_matches_one_of_the_whole(distribution: Literal["normal", "uniform"]) -> None:
    init, shape = initializers.scaled(distribution, 2.0, "fan_in"), (3, 3, 61, 200)
    assert np.prod(shape) > initializers.PIECE
    whole = jax.jit(lambda key: init(key, shape, jnp.float32))(jax.random.key(KEY))
    pieces = init(jax.random.key(KEY), shape, jnp.float32)
    # A larger program may round products differently; the hashes of whole networks are compared above.
    np.testing.assert_allclose(pieces, whole, rtol=3e-7)


def test_draws_can_be_mapped_over_keys() -> None:
    init, keys = initializers.normal(1.0), jax.random.split(jax.random.key(KEY), 2)
    mapped = jax.vmap(lambda key: init(key, (5, 9), jnp.float32))(keys)
    np.testing.assert_allclose(mapped, [init(key, (5, 9), jnp.float32) for key in keys], rtol=3e-7)


def test_init_eqn_by_eqn_computes_only_what_is_needed() -> None:
    computed = []

    def function(x: jax.Array) -> dict[str, jax.Array]:
        needed = jnp.sin(x) * 2
        jax.debug.callback(lambda value: computed.append(value), jnp.cos(x))
        return {"needed": needed, "same": x, "constant": jnp.ones(2)}

    x = jnp.arange(3.0)
    given = init_eqn_by_eqn(function, x)
    jax.effects_barrier()
    assert not computed
    chex.assert_trees_all_equal(given, {"needed": jnp.sin(x) * 2, "same": x, "constant": jnp.ones(2)})


def test_init_eqn_by_eqn_can_be_traced() -> None:
    double = jax.jit(lambda x: init_eqn_by_eqn(lambda y: 2 * y, x))
    np.testing.assert_array_equal(double(jnp.arange(3.0)), [0, 2, 4])
