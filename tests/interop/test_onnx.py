"""ONNX files: each operation gives JAX's values, and what has no form in ONNX is refused."""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from jax import lax
from onnx import reference

from jaxnets import ops
from jaxnets.errors import ConfigError
from jaxnets.interop.onnx import to_onnx

SHAPE = (6, 5, 4)
KERNEL = np.random.default_rng(1).normal(size=(3, 2, 4, 8)).astype(np.float32)
DEPTHWISE = np.random.default_rng(2).normal(size=(3, 3, 1, 4)).astype(np.float32)
CHANNELS = np.arange(1, 5, dtype=np.float32)


def _convert(
    function: Callable[[Any], Any], shape: tuple[int, ...] = SHAPE, dtype: Any = np.float32
) -> bytes:
    def outputs(images: Any) -> tuple[Any]:
        return (function(images),)

    spec = jax.ShapeDtypeStruct(shape, dtype)
    return to_onnx(outputs, spec, input_name="x", output_names=["y"], metadata={"key": "value"})


def _xla(name: str, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
    return lambda x: getattr(ops, name)(x, *arguments, implementation="xla", **options)


def _densely(x: Any) -> Any:
    """Channels that are written beside those of the input, as in a folded DenseNet."""
    wide = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 3)))
    wide = lax.dynamic_update_slice(wide, x[..., :1] * 2, (0, 0, 0, 4))
    wide = lax.dynamic_update_slice(wide, lax.slice_in_dim(wide, 0, 2, axis=3) + 1, (0, 0, 0, 5))
    return wide


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "convolution": _xla("convolution", KERNEL, strides=(2, 1), padding=((1, 0), (0, 2))),
    "depthwise": _xla("convolution", DEPTHWISE, padding=((1, 1), (1, 1)), groups=4),
    "bias": lambda x: _xla("convolution", KERNEL)(x) + np.arange(8, dtype=np.float32)[None, None, None],
    "bias of a value that is read twice": lambda x: (
        (y := _xla("convolution", KERNEL)(x)) * (y + np.arange(8, dtype=np.float32)[None, None, None])
    ),
    "max_pool": _xla("max_pool", (3, 2), strides=(2, 1), padding=((1, 1), (0, 1))),
    "average_pool": _xla("average_pool", (3, 2), strides=(2, 1), padding=((1, 1), (0, 0))),
    "average_pool without padding": _xla(
        "average_pool", (3, 3), strides=(1, 1), padding=((1, 1), (1, 1)), count_include_pad=False
    ),
    "global_average_pool": ops.global_average_pool,
    "global_max_pool": ops.global_max_pool,
    "mean of one axis": lambda x: x.mean(axis=1),
    "sum of channels": lambda x: x.sum(axis=3),
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "clip": lambda x: jnp.clip(x, -0.3, 0.4),
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "leaky_relu": lambda x: jnp.where(x > 0, x, 0.01 * x),
    "tanh": jnp.tanh,
    "rsqrt": lambda x: lax.rsqrt(x * x + 1),
    "power": lambda x: x**3 - x**2,
    "reverse subtraction": lambda x: 1 - x / CHANNELS[None, None, None],
    "squeeze and excitation": lambda x: (
        x * jax.nn.sigmoid(x.mean(axis=(1, 2)) * CHANNELS[None])[:, None, None]
    ),
    "concatenate": lambda x: jnp.concatenate([x, 2 * x], axis=3),
    "stack": lambda x: jnp.stack([x[:, 0], x[:, 3]], axis=1),
    "slice": lambda x: x[:, 1:5:2, :, 1:],
    "pad": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), constant_values=-1),
    "padded channels": lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 2))) + 1,
    "in place": _densely,
    "transpose": lambda x: x.transpose(0, 2, 1, 3),
    "flatten": lambda x: x.reshape(x.shape[0], -1) @ np.ones((120, 2), np.float32),
    "reshape": lambda x: x.reshape(x.shape[0], 3, 10, 4),
    "softmax": lambda x: jax.nn.softmax(x.mean(axis=(1, 2))),
    "a constant": lambda x: x + jnp.sin(CHANNELS)[None, None, None],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_give_the_values_of_jax(name: str) -> None:
    function = FUNCTIONS[name]
    session = reference.ReferenceEvaluator(onnx.load_from_string(_convert(function)))
    for count in (1, 3):
        images = np.random.default_rng(count).normal(size=(count, *SHAPE)).astype(np.float32)
        expected = np.asarray(function(jnp.asarray(images)))
        (found,) = session.run(None, {"x": images})
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_bytes_are_converted() -> None:
    data = _convert(lambda x: x.astype(np.float32) / 255, dtype=np.uint8)
    images = np.random.default_rng(0).integers(0, 256, (2, *SHAPE), np.uint8)
    (found,) = reference.ReferenceEvaluator(onnx.load_from_string(data)).run(None, {"x": images})
    np.testing.assert_allclose(found, images / np.float32(255), rtol=1e-6)


def test_the_file_describes_itself() -> None:
    model = onnx.load_from_string(_convert(_xla("convolution", KERNEL)))
    assert {each.key: each.value for each in model.metadata_props} == {"key": "value"}
    (given,), (returned,) = model.graph.input, model.graph.output
    extents = [each.dim_param or each.dim_value for each in given.type.tensor_type.shape.dim]
    assert (given.name, extents) == ("x", ["batch", *SHAPE])
    extents = [each.dim_param or each.dim_value for each in returned.type.tensor_type.shape.dim]
    assert (returned.name, extents) == ("y", ["batch", 4, 4, 8])


def test_a_convolution_has_its_bias() -> None:
    model = onnx.load_from_string(_convert(FUNCTIONS["bias"]))
    (node,) = (node for node in model.graph.node if node.op_type == "Conv")
    assert len(node.input) == 3
    assert not [node for node in model.graph.node if node.op_type == "Add"]


def test_nodes_without_readers_are_removed() -> None:
    model = onnx.load_from_string(_convert(lambda x: (jnp.tanh(x), x)[1]))
    assert "Tanh" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: jnp.sort(x, axis=1), "sort"),
        (lambda x: lax.dynamic_update_slice(x, x[:, :1], (0, 2, 0, 0)), "in place"),
        (lambda x: lax.conv_general_dilated(x, KERNEL, (1, 1), ((0, 0), (0, 0)), lhs_dilation=(2, 2),
                                            dimension_numbers=("NHWC", "HWIO", "NHWC")), "transposed"),
        (lambda x: lax.cumsum(x, axis=1), "cumsum"),
    ],
)  # fmt: skip
def test_what_onnx_cannot_hold_is_named(function: Callable[[Any], Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        _convert(function)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'jaxnets\[onnx\]'"):
        _convert(jnp.tanh)
