"""Initial weights have the bits that they have always had: runs under results/ began with them."""

import hashlib
import json
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import config as recipes
from jaxnets import models
from jaxnets.models.by_equation import by_equation

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "initial_weights.json").read_text())
SIZES = {"lenet5": 28, "inception_v3": 75, "inception_resnet_v2": 75}
FAST = ("lenet5 torch", "lenet5 flax")


def _digest(name: str, style: str) -> str:
    config = recipes.recipe().model
    config.name, config.num_classes, config.init = name, 3, style
    size = SIZES.get(name, 32)
    variables = models.initialize(models.create(config), jax.random.key(7), (1, size, size, 3))
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()[:12]


@pytest.mark.parametrize(
    "case",
    [case if case in FAST else pytest.param(case, marks=pytest.mark.slow) for case in GOLDEN],
)
def test_the_bits_are_the_golden_ones(case: str) -> None:
    assert _digest(*case.split()) == GOLDEN[case]


def test_only_what_the_result_needs_is_computed() -> None:
    computed = []

    def function(x: jax.Array) -> dict[str, jax.Array]:
        wanted = jnp.sin(x) * 2
        jax.debug.callback(lambda value: computed.append(value), jnp.cos(x))
        return {"wanted": wanted, "same": x, "constant": jnp.ones(2)}

    x = jnp.arange(3.0)
    given = by_equation(function, x)
    assert not computed
    chex.assert_trees_all_equal(
        given, {"wanted": jnp.sin(x) * 2, "same": x, "constant": jnp.ones(2)}
    )


def test_it_may_be_traced() -> None:
    double = jax.jit(lambda x: by_equation(lambda y: 2 * y, x))
    np.testing.assert_array_equal(double(jnp.arange(3.0)), [0, 2, 4])
