"""The operations match PyTorch: in double precision, and the C++ kernels in single precision."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from jaxnets.ops import BatchNorm, average_pool, convolution, global_max_pool, max_pool
from jaxnets.ops.cpu_kernels import Implementation

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("x64")]
functional = torch.nn.functional


class KernelCase(NamedTuple):
    """An implementation, its dtype, and its tolerances compared with PyTorch in double precision."""

    implementation: Implementation
    dtype: Any
    tolerances: dict[str, float]


@pytest.fixture(params=["by_shape", "xla", "portable", "AVX2", "AVX-512"])
def case(request: pytest.FixtureRequest) -> KernelCase:
    """Returns every implementation; instruction sets that this CPU lacks are replaced by the fastest."""
    if request.param in ("by_shape", "xla"):
        return KernelCase(request.param, np.float64, {"rtol": 1e-11, "atol": 1e-12})
    built = {kernel.instructions: kernel for kernel in request.getfixturevalue("kernels")}
    fastest = built[list(built)[-1]]
    return KernelCase(built.get(request.param, fastest), np.float32, {"rtol": 1e-5, "atol": 1e-5})


def channels_first(array: np.ndarray) -> Any:
    return torch.tensor(np.moveaxis(array, -1, 1), requires_grad=True)


def channels_last(tensor: Any) -> np.ndarray:
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


def with_gradients(function: Callable[..., jax.Array], *arrays: np.ndarray) -> tuple[Any, Any, Any]:
    """Returns the value, a random cotangent, and the gradients of all arrays."""
    value, pull_back = jax.vjp(jax.jit(function), *arrays)
    cotangent = np.random.default_rng(7).normal(size=value.shape).astype(value.dtype)
    return np.asarray(value), cotangent, pull_back(cotangent)


@pytest.mark.parametrize("size", [5, 13, 18])
@pytest.mark.parametrize(
    ("extent", "stride", "pad"),
    [(1, 1, 0), (1, 2, 0), (1, 1, 1), (3, 1, 1), (3, 2, 1), (3, 2, 0), (5, 1, 0), (7, 2, 3)],
)
def test_convolution(case: KernelCase, size: int, extent: int, stride: int, pad: int) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, size, size + 1, 3)).astype(case.dtype)
    kernel = generator.normal(size=(extent, extent, 3, 4)).astype(case.dtype)
    value, cotangent, (grad_x, grad_kernel) = with_gradients(
        lambda x, kernel: convolution(
            x,
            kernel,
            strides=(stride, stride),
            padding=((pad, pad), (pad, pad)),
            implementation=case.implementation,
        ),
        x,
        kernel,
    )
    their_x = channels_first(x.astype(np.float64))
    transposed = kernel.transpose(3, 2, 0, 1).astype(np.float64)
    their_kernel = torch.tensor(transposed, requires_grad=True)
    expected = functional.conv2d(their_x, their_kernel, stride=stride, padding=pad)
    expected.backward(torch.tensor(np.moveaxis(cotangent, -1, 1).astype(np.float64)))
    np.testing.assert_allclose(value, channels_last(expected), **case.tolerances)
    np.testing.assert_allclose(grad_x, channels_last(their_x.grad), **case.tolerances)
    np.testing.assert_allclose(grad_kernel, their_kernel.grad.permute(2, 3, 1, 0), **case.tolerances)


@pytest.mark.parametrize(("window", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 2, 0), (3, 1, 1)])
def test_max_pool_with_ties(case: KernelCase, window: int, stride: int, pad: int) -> None:
    # Small integers, so nearly every window has ties.
    x = np.random.default_rng(0).integers(0, 3, size=(2, 8, 9, 3)).astype(case.dtype)
    value, cotangent, (grad_x,) = with_gradients(
        lambda x: max_pool(
            x,
            (window, window),
            strides=(stride, stride),
            padding=((pad, pad), (pad, pad)),
            implementation=case.implementation,
        ),
        x,
    )
    theirs = channels_first(x)
    expected = functional.max_pool2d(theirs, window, stride, pad)
    expected.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    np.testing.assert_array_equal(value, channels_last(expected))
    np.testing.assert_allclose(grad_x, channels_last(theirs.grad), **case.tolerances)


def test_max_pool_of_nan(case: KernelCase) -> None:
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype(case.dtype)
    x[0, 2, 3, 0] = x[0, 5, 5, 1] = np.nan
    value, cotangent, (grad_x,) = with_gradients(
        lambda x: max_pool(x, (2, 2), strides=(2, 2), implementation=case.implementation), x
    )
    theirs = channels_first(x)
    expected = functional.max_pool2d(theirs, 2, 2)
    expected.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    assert np.isnan(value).sum() == 2
    np.testing.assert_array_equal(value, channels_last(expected))
    if case.implementation != "xla":  # XLA's gradient ignores NaN
        np.testing.assert_array_equal(grad_x, channels_last(theirs.grad))


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(
    ("window", "stride", "pad"),
    [((2, 2), (2, 2), (0, 0)), ((3, 3), (1, 1), (1, 1)), ((5, 3), (3, 2), (2, 0))],
)
def test_average_pool(
    count_include_pad: bool, window: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]
) -> None:
    x = np.random.default_rng(0).normal(size=(2, 8, 9, 3))
    value, cotangent, (grad_x,) = with_gradients(
        lambda x: average_pool(
            x,
            window,
            strides=stride,
            padding=((pad[0], pad[0]), (pad[1], pad[1])),
            count_include_pad=count_include_pad,
        ),
        x,
    )
    theirs = channels_first(x)
    expected = functional.avg_pool2d(theirs, window, stride, pad, count_include_pad=count_include_pad)
    expected.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    np.testing.assert_allclose(value, channels_last(expected), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(grad_x, channels_last(theirs.grad), rtol=1e-13, atol=1e-14)


def test_global_max_pool_with_ties_and_nan() -> None:
    x = np.random.default_rng(0).integers(0, 3, size=(2, 4, 5, 3)).astype(np.float64)
    value, cotangent, (grad_x,) = with_gradients(global_max_pool, x)
    theirs = channels_first(x)
    expected = torch.amax(theirs, (2, 3))
    expected.backward(torch.tensor(cotangent))
    np.testing.assert_array_equal(value, expected.detach())
    np.testing.assert_allclose(grad_x, channels_last(theirs.grad), rtol=1e-13)
    x[0, 1, 2, 0] = np.nan
    assert np.isnan(np.asarray(global_max_pool(x))).sum() == 1
    assert torch.isnan(torch.amax(channels_first(x), (2, 3))).sum() == 1


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("momentum", [0.1, 0.01])
def test_batch_norm(train: bool, momentum: float) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(3.0, 2.0, size=(4, 3, 5, 6))
    params = {"scale": generator.normal(size=6), "bias": generator.normal(size=6)}
    statistics = {"mean": generator.normal(size=6), "var": generator.uniform(0.5, 2.0, size=6)}
    layer = BatchNorm(epsilon=1e-3, momentum=momentum, dtype=jnp.float64)

    def apply(x: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": statistics}
        return layer.apply(variables, x, train=train, mutable=["batch_stats"])

    value, pull_back, updated = jax.vjp(jax.jit(apply), x, params, has_aux=True)
    cotangent = generator.normal(size=x.shape)
    grad_x, grad_params = pull_back(cotangent)

    theirs = torch.nn.BatchNorm2d(6, eps=1e-3, momentum=momentum, dtype=torch.float64)
    pairs = {"weight": params["scale"], "bias": params["bias"], "running_mean": statistics["mean"]}
    pairs["running_var"] = statistics["var"]
    theirs.load_state_dict({k: torch.tensor(v) for k, v in pairs.items()}, strict=False)
    theirs.train(train)
    their_x = channels_first(x)
    expected = theirs(their_x)
    expected.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    close = {"rtol": 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(value, channels_last(expected), **close)
    np.testing.assert_allclose(grad_x, channels_last(their_x.grad), **close)
    np.testing.assert_allclose(grad_params["scale"], theirs.weight.grad, **close)
    np.testing.assert_allclose(grad_params["bias"], theirs.bias.grad, **close)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], theirs.running_mean, **close)
    np.testing.assert_allclose(updated["batch_stats"]["var"], theirs.running_var, **close)
