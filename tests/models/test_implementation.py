"""Networks with `implementation="xla"` support all derivatives and match the other implementations."""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import config as config_lib
from jaxnets import models

IMAGES = 4
Energy = Callable[[Any], jax.Array]

SMALL = {
    "lenet5": {"name": "lenet5", "kernel_size": 3},
    "resnet50": {"name": "resnet50", "stage_sizes": (1,), "width": 2},
}
SHORT = {
    **{f"resnet{layers}": {"stage_sizes": (1, 1, 1, 1)} for layers in (18, 34, 50, 101, 152)},
    "nasnet_mobile": {"cells": 1},
    "inception_resnet_v2": {"repeats": (1, 1, 1)},
    "densenet121": {"block_sizes": (1, 1, 1, 1)},
}
"""Overrides that make deep networks short, with each block once."""


def _model(implementation: str, **fields: Any) -> Any:
    model = config_lib.default_config().model
    model.update({"num_classes": 3, "implementation": implementation, **fields})
    return models.create(model)


def _inputs(**fields: Any) -> tuple[Any, Any, np.ndarray]:
    """Returns variables, a direction in parameter space and images."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(IMAGES, 16, 16, 3))
    variables = models.initialize(_model("auto", **fields), jax.random.key(0), x.shape)
    direction = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), variables["params"])
    return variables, direction, x


def _energy(implementation: str, variables: Any, x: jax.Array, **fields: Any) -> Energy:
    model = _model(implementation, **fields)

    def energy(params: Any) -> jax.Array:
        given = {**variables, "params": params}
        logits, _ = model.apply(given, x, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(logits))

    return energy


def _dot(first: Any, second: Any) -> jax.Array:
    return sum(map(jnp.vdot, jax.tree.leaves(first), jax.tree.leaves(second)), jnp.zeros(()))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["lenet5", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_xla_implementation_has_all_derivatives(name: str) -> None:
    fields = {**SMALL[name], "dtype": "float64"}
    variables, direction, x = _inputs(**fields)
    auto, reference = (_energy(name, variables, x, **fields) for name in ("auto", "xla"))
    params = variables["params"]

    @functools.partial(jax.jit, static_argnums=0)
    def reverse(energy: Energy) -> Any:
        slope = jax.grad(energy)
        curvature = jax.grad(lambda params: _dot(slope(params), direction))(params)
        return jax.value_and_grad(energy)(params), curvature

    @jax.jit
    def forward() -> Any:
        directional = lambda params: jax.jvp(reference, (params,), (direction,))[1]  # noqa: E731
        second = jax.jvp(directional, (params,), (direction,))[1]
        return directional(params), jax.grad(directional)(params), second

    (value, gradient), curvature = reverse(reference)
    chex.assert_trees_all_close(((value, gradient), curvature), reverse(auto), rtol=1e-9, atol=1e-9)
    tangent, by_reverse, by_forward = forward()
    np.testing.assert_allclose(tangent, _dot(gradient, direction), rtol=1e-9)
    chex.assert_trees_all_close(by_reverse, curvature, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(by_forward, _dot(curvature, direction), rtol=1e-9)

    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(auto, (params,), (direction,))


@pytest.mark.parametrize(
    "name",
    [
        name if name in SMALL else pytest.param(name, marks=pytest.mark.slow)
        for name, entry in models.REGISTRY.items()
        if entry.kind == "image"
    ],
)
def test_every_image_network_passes_the_implementation_to_its_layers(name: str) -> None:
    size = models.entry(name).smallest
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)

    def program(implementation: str) -> str:
        model = _model(implementation, name=name).clone(**SHORT.get(name, {}))
        keys = dict(zip(("params", "dropout"), jax.random.split(jax.random.key(0)), strict=True))
        variables = jax.eval_shape(functools.partial(model.init, train=False), keys, images)
        apply = functools.partial(model.apply, train=True, mutable=["batch_stats"], rngs=keys)
        return str(jax.make_jaxpr(apply)(variables, images))

    assert "custom_vjp" in program("auto")
    plain = program("xla")
    assert "custom_vjp" not in plain
    assert "platform_index" not in plain
