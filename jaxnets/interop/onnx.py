"""Writes a program of JAX as an ONNX file. Needs the package `onnx`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxnets.errors import ConfigError
from jaxnets.interop.onnx_graph import Graph, Tensor, Value, to_channels_first, to_jax
from jaxnets.interop.onnx_operations import BROADCASTING, OPERATIONS

OPSET, IR_VERSION = 17, 8
"""The versions of ONNX's operators and of its files; onnxruntime 1.12 and OpenVINO 2022.2 read them."""
CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint")
"""Operations that run another program."""


def to_onnx(
    function: Callable[..., Any],
    images: jax.ShapeDtypeStruct,
    *,
    input_name: str,
    output_names: Sequence[str],
    metadata: Mapping[str, str],
) -> bytes:
    """Converts a pure function of images to a file of ONNX, with a batch of any size.

    Args:
        function: images [B, H, W, C] -> a tuple of arrays [B, ...]. The first axis of all arrays that it
            computes is the batch. Without custom calls: a network has the implementation "xla".
        images: the shape [H, W, C] and the dtype of one image.
        input_name: the name of the graph's input [B, H, W, C].
        output_names: the names of the graph's outputs.
        metadata: properties of the model.

    Returns:
        The file.

    Raises:
        ConfigError: `onnx` is not installed, or the program has an operation that is not known here.
    """
    try:
        import onnx
    except ImportError as error:
        raise ConfigError("ONNX files need the package onnx: pip install 'jaxnets[onnx]'") from error
    shape = (1, *images.shape)
    program = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(shape, images.dtype))
    graph = Graph(onnx)
    source = to_channels_first(graph, Tensor(input_name, shape))
    outputs = _run(graph, program.jaxpr, program.consts, [source])
    named = []
    for name, value, spec in zip(output_names, outputs, program.out_avals, strict=True):
        graph.nodes.append(onnx.helper.make_node("Identity", [graph.name(to_jax(graph, value))], [name]))
        named.append(_describe(onnx, name, spec.shape, spec.dtype))
    graph.simplify(output_names)
    inputs = [_describe(onnx, input_name, shape, images.dtype)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "jaxnets", inputs, named, graph.initializers),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="jaxnets",
    )
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _describe(onnx: Any, name: str, shape: Sequence[Any], dtype: Any) -> Any:
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, kind, ["batch", *shape[1:]])


def _run(graph: Graph, program: core.Jaxpr, constants: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
    """Writes the operations of a program, and returns its outputs."""
    values: dict[Any, Value] = dict(zip(program.constvars, map(np.asarray, constants), strict=True))
    values |= dict(zip(program.invars, inputs, strict=True))

    def read(variable: Any) -> Value:
        return np.asarray(variable.val) if isinstance(variable, core.Literal) else values[variable]

    for equation in program.eqns:
        results = _write(graph, equation, [read(variable) for variable in equation.invars])
        values |= dict(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in program.outvars]


def _write(graph: Graph, equation: Any, inputs: list[Value]) -> Sequence[Value]:
    name, parameters = equation.primitive.name, equation.params
    if name in CALLS:
        called = next(parameters[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in parameters)
        closed = called if isinstance(called, core.ClosedJaxpr) else core.ClosedJaxpr(called, ())
        return _run(graph, closed.jaxpr, closed.consts, inputs)
    shapes = [variable.aval.shape for variable in equation.outvars]
    is_constant = all(isinstance(value, np.ndarray) for value in inputs) and name != "broadcast_in_dim"
    if is_constant or name not in BROADCASTING:
        inputs = [_broadcast(v, e.aval.shape, name) for v, e in zip(inputs, equation.invars, strict=True)]
    if is_constant:
        results = equation.primitive.bind(*inputs, **parameters)
        return [np.asarray(each) for each in (results if equation.primitive.multiple_results else [results])]
    if name not in OPERATIONS:
        raise ConfigError(f"the operation {name} of this network cannot be written as ONNX")
    return [OPERATIONS[name](graph, parameters, shapes[0], *inputs)]


def _broadcast(value: Value, shape: Sequence[Any], operation: str) -> Value:
    """The value with the shape that the program has; operators that broadcast do not need it."""
    extents = (
        value.shape
        if isinstance(value, np.ndarray) or value.channels is None
        else (*value.shape[:-1], value.channels)
    )
    if tuple(extents) == tuple(shape):
        return value
    if isinstance(value, np.ndarray):
        return np.broadcast_to(value, shape)
    raise ConfigError(f"the operation {operation} of a broadcast array cannot be written as ONNX")
