"""Folded batch normalisation: the same logits with one operation for a convolution and what follows it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_networks import NETWORKS, draw_network

from jaxnets import models, ops
from jaxnets.ops.cpu_kernels import Implementation, Kernels


def _logits(model: Any, variables: dict[str, Any], images: Any, *, folded: bool) -> np.ndarray:
    def apply(variables: dict[str, Any], images: jax.Array) -> jax.Array:
        return model.apply(variables, images, train=False)

    if folded:
        variables = jax.jit(lambda v: models.fold_batch_norm(model, v, images[:1]))(variables)
    return np.asarray(jax.jit(apply)(variables, images))


LARGE = ("vgg16_bn", "xception", "nasnet_mobile")
"""Their layers are those of the others."""


@pytest.mark.parametrize(
    ("name", "implementation"),
    [
        ("resnet50", "by_shape"),
        *((name, "kernels") for name in NETWORKS if name not in LARGE),
        *(pytest.param(name, "kernels", marks=pytest.mark.slow) for name in LARGE),
    ],
)
def test_folded_networks_have_the_same_logits(
    name: str, implementation: Implementation, request: pytest.FixtureRequest
) -> None:
    model, variables, images = draw_network(name)
    if implementation == "kernels":
        implementation = request.getfixturevalue("kernels")[-1]
    single = model.clone(implementation=implementation)
    plain, folded = (_logits(single, variables, images, folded=each) for each in (False, True))
    with jax.enable_x64(True):
        double = model.clone(dtype=jnp.float64, implementation="xla")
        variables, images = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (variables, images))
        exact, exact_folded = (_logits(double, variables, images, folded=each) for each in (False, True))
    largest = np.abs(exact).max()
    assert np.abs(exact_folded - exact).max() <= 1e-12 * largest
    assert largest > 0
    own_error = np.abs(plain - exact).max() / largest
    assert np.abs(folded - plain).max() / largest <= max(1e-5, 2 * own_error)


def test_folded_variables_replace_the_kernels(kernels: tuple[Kernels, ...]) -> None:
    model, variables, images = draw_network("resnet50")
    folded = models.fold_batch_norm(model, variables, images[:1])
    assert "kernel" not in folded["params"].get("conv1", {})
    assert folded["params"]["classifier"].keys() == {"kernel", "bias"}
    assert folded[ops.FOLDED]["conv1"]["kernel"].shape == (7, 7, 3, 16)
    packed = models.fold_batch_norm(model.clone(implementation=kernels[-1]), variables, images[:1])
    assert packed[ops.FOLDED]["conv1"]["kernel"].ndim == 1


def test_a_folded_block_is_one_call_for_each_convolution(kernels: tuple[Kernels, ...]) -> None:
    model, variables, images = draw_network("resnet50")
    model = model.clone(implementation=kernels[-1])
    variables = models.fold_batch_norm(model, variables, images[:1])
    program = jax.jit(lambda v, x: model.apply(v, x, train=False)).lower(variables, images).as_text()
    assert program.count("_convolution_packed") == 1 + 4 + 4 + 3  # the first blocks have a projection
    for operation in ("rsqrt", "maximum", "stablehlo.convolution"):
        assert operation not in program


def test_folded_branches_write_into_their_concatenation(kernels: tuple[Kernels, ...]) -> None:
    model, variables, images = draw_network("inception_v1")
    model = model.clone(implementation=kernels[-1])
    variables = models.fold_batch_norm(model, variables, images[:1])
    program = jax.jit(lambda v, x: model.apply(v, x, train=False)).lower(variables, images).as_text()
    assert "stablehlo.concatenate" not in program
