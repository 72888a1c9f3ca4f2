"""How each operation of JAX is written as nodes of ONNX.

A function takes the graph, the operation's parameters, the shape of its result in JAX's order of axes, and
its inputs. It returns the result.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxnets.errors import ConfigError
from jaxnets.interop.onnx_graph import (
    AXES,
    TO_ONNX,
    Graph,
    Tensor,
    Value,
    axis_in_graph,
    to_channels_first,
    to_jax,
)

KERNEL_TO_ONNX = (3, 2, 0, 1)
"""From [kh, kw, C_in, C_out] to [C_out, C_in, kh, kw]."""
ELEMENTWISE = {
    "add": "Add",
    "add_any": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "min": "Min",
    "pow": "Pow",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "lt": "Less",
    "le": "LessOrEqual",
    "neg": "Neg",
    "exp": "Exp",
    "log": "Log",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "erf": "Erf",
    "sqrt": "Sqrt",
    "abs": "Abs",
}


def _elementwise(operator: str) -> Callable[..., Value]:
    def write(graph: Graph, _: Any, shape: Sequence[Any], *inputs: Value) -> Value:
        return graph.add(operator, inputs, shape)

    return write


def _divide(graph: Graph, _: Any, shape: Sequence[Any], x: Value, y: Value) -> Value:
    """A quotient; a sum over pixels, divided by their number, is a mean."""
    if isinstance(x, np.ndarray) or isinstance(y, Tensor) or x.factor == 1:
        return graph.add("Div", [x, y], shape)
    factor = x.factor / y
    if np.all(factor == factor.flat[0]):
        return dataclasses.replace(x, factor=float(factor.flat[0]))
    return graph.add("Mul", [dataclasses.replace(x, factor=1.0), factor], shape)


def _max(graph: Graph, _: Any, shape: Sequence[Any], x: Value, y: Value) -> Value:
    for value, other in ((x, y), (y, x)):
        if isinstance(other, np.ndarray) and other.size and not other.any():
            return graph.add("Relu", [value], shape)
    return graph.add("Max", [x, y], shape)


def _clamp(graph: Graph, _: Any, shape: Sequence[Any], low: Value, x: Value, high: Value) -> Value:
    return graph.add("Clip", [x, low, high], shape)


def _select(graph: Graph, _: Any, shape: Sequence[Any], condition: Value, no: Value, yes: Value) -> Value:
    if isinstance(condition, np.ndarray) and condition.size == 1:
        return yes if condition.item() else no
    return graph.add("Where", [condition, yes, no], shape)


def _integer_power(graph: Graph, parameters: Any, shape: Sequence[Any], x: Value) -> Value:
    return graph.add("Pow", [x], shape, np.array(parameters["y"], np.float32))


def _reciprocal_root(graph: Graph, _: Any, shape: Sequence[Any], x: Value) -> Value:
    return graph.add("Reciprocal", [graph.add("Sqrt", [x], shape)], shape)


def _error_function_complement(graph: Graph, _: Any, shape: Sequence[Any], x: Value) -> Value:
    return graph.add("Sub", [np.array(1, np.float32), graph.add("Erf", [x], shape)], shape)


def _square(graph: Graph, _: Any, shape: Sequence[Any], x: Value) -> Value:
    return graph.add("Mul", [x, x], shape)


def _identity(graph: Graph, _: Any, shape: Sequence[Any], x: Value) -> Value:
    return x


def _cast(graph: Graph, parameters: Any, shape: Sequence[Any], x: Value) -> Value:
    return graph.add("Cast", [x], shape, to=graph.type_of(parameters["new_dtype"]))


def _convolution(graph: Graph, parameters: Any, shape: Sequence[Any], x: Value, kernel: Value) -> Value:
    numbers = parameters["dimension_numbers"]
    plain = parameters["batch_group_count"] == 1 and set(parameters["lhs_dilation"]) == {1}
    layouts = (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec)
    if not isinstance(kernel, np.ndarray) or not plain or layouts != (TO_ONNX, KERNEL_TO_ONNX, TO_ONNX):
        raise ConfigError(
            "a transposed convolution, or one with a computed kernel, cannot be written as ONNX"
        )
    return graph.add(
        "Conv",
        [x],
        shape,
        kernel.transpose(KERNEL_TO_ONNX),
        strides=list(parameters["window_strides"]),
        pads=_pads(parameters["padding"]),
        dilations=list(parameters["rhs_dilation"]),
        group=parameters["feature_group_count"],
    )


def _pads(padding: Sequence[tuple[int, int]]) -> list[int]:
    """The pixels before each axis, then those after each."""
    return [*(before for before, _ in padding), *(after for _, after in padding)]


def _product(graph: Graph, parameters: Any, shape: Sequence[Any], x: Value, y: Value) -> Value:
    axes = parameters["dimension_numbers"]
    if axes == (((1,), (0,)), ((), ())) and len(x.shape) == 2:
        return graph.add("MatMul", [x, y], shape)
    if axes == (((3,), (0,)), ((), ())) and isinstance(y, np.ndarray):  # a dense layer for each pixel
        return graph.add("Conv", [x], shape, y.T[:, :, None, None])
    raise ConfigError("a product of arrays other than matrices or images cannot be written as ONNX")


def _pool(operator: str, **attributes: Any) -> Callable[..., Value]:
    def write(graph: Graph, parameters: Any, shape: Sequence[Any], x: Value, *_: Value) -> Value:
        window, strides = parameters["window_dimensions"], parameters["window_strides"]
        dilations = {*parameters["base_dilation"], *parameters["window_dilation"]}
        if len(window) != 4 or (window[0], window[3]) != (1, 1) or dilations != {1}:
            raise ConfigError("pooling of other axes than height and width cannot be written as ONNX")
        y = graph.add(
            operator,
            [x],
            shape,
            kernel_shape=list(window[1:3]),
            strides=list(strides[1:3]),
            pads=_pads(parameters["padding"][1:3]),
            **attributes,
        )
        return y if operator == "MaxPool" else dataclasses.replace(y, factor=float(math.prod(window)))

    return write


def _reduce(operator: str) -> Callable[..., Value]:
    """Reduces axes; a sum is a mean, times their number."""

    def write(graph: Graph, parameters: Any, shape: Sequence[Any], x: Value) -> Value:
        axes = parameters["axes"]
        positions = sorted(axis_in_graph(axis, len(x.shape)) for axis in axes)
        if len(x.shape) == 4 and len(shape) == 3:  # their order matters
            x, positions = to_jax(graph, x), sorted(axes)
        y = graph.add(operator, [x], shape, axes=positions, keepdims=0)
        if operator != "ReduceMean":
            return y
        return dataclasses.replace(y, factor=float(math.prod(x.shape[axis] for axis in axes)))

    return write


def _reshape(graph: Graph, _: Any, shape: Sequence[Any], x: Value) -> Value:
    if not x.shape or not shape or (x.shape[0], shape[0]) != (1, 1):
        raise ConfigError("a reshape of the batch axis cannot be written as ONNX")
    extents = np.array([-1, *shape[1:]])
    pixels, new_pixels = (tuple(each[1:3]) if len(each) == 4 else None for each in (x.shape, shape))
    if pixels != (1, 1):  # of one pixel, the order of axes is the same
        x = to_jax(graph, x)
    if new_pixels == (1, 1):
        return graph.add("Reshape", [x], shape, extents[list(TO_ONNX)])
    return to_channels_first(graph, graph.add("Reshape", [x], shape, extents))


def _broadcast_in_dim(graph: Graph, parameters: Any, shape: Sequence[Any], x: Value, *_: Value) -> Value:
    """The array with axes of one element; the operators that read it broadcast."""
    extents = [1] * len(shape)
    for axis, position in enumerate(parameters["broadcast_dimensions"]):
        extents[position] = x.shape[axis]
    if isinstance(x, np.ndarray):
        return x.reshape(extents)
    return x if len(extents) == len(x.shape) else _reshape(graph, {}, extents, x)


def _concatenate(graph: Graph, parameters: Any, shape: Sequence[Any], *arrays: Value) -> Value:
    return graph.add("Concat", arrays, shape, axis=axis_in_graph(parameters["dimension"], len(shape)))


def _stack(graph: Graph, parameters: Any, shape: Sequence[Any], *arrays: Value) -> Value:
    axis = parameters["axis"]
    extents = (*shape[:axis], 1, *shape[axis + 1 :])
    parts = [_reshape(graph, {}, extents, array) for array in arrays]
    return graph.add("Concat", parts, shape, axis=axis_in_graph(axis, len(shape)))


def _slice(graph: Graph, parameters: Any, shape: Sequence[Any], x: Value) -> Value:
    if isinstance(x, Tensor) and x.channels is not None and _is_first(x, parameters, shape):
        x = dataclasses.replace(x, channels=None)
    strides = parameters["strides"] or (1,) * len(shape)
    bounds = zip(parameters["start_indices"], parameters["limit_indices"], strides, x.shape, strict=True)
    cut = [(axis, *bound[:3]) for axis, bound in enumerate(bounds) if bound[:3] != (0, bound[3], 1)]
    if not cut:
        return x
    axes, starts, limits, steps = (np.array(each) for each in zip(*cut, strict=True))
    positions = np.array([axis_in_graph(axis, len(shape)) for axis in axes])
    return graph.add("Slice", [x], shape, starts, limits, positions, steps)


def _is_first(x: Tensor, parameters: Any, shape: Sequence[Any]) -> bool:
    """Whether a slice reads the first channels only, without those that were padded."""
    return parameters["start_indices"][-1] == 0 and shape[-1] <= x.shape[-1]


def _pad(graph: Graph, parameters: Any, shape: Sequence[Any], x: Value, fill: Value) -> Value:
    config = parameters["padding_config"]
    if not isinstance(fill, np.ndarray) or any(min(low, high) < 0 or gap for low, high, gap in config):
        raise ConfigError("padding that crops, or between pixels, cannot be written as ONNX")
    edges = [edge[:2] for edge in config]
    adds_channels = len(shape) == 4 and not fill.any() and all(edge == (0, 0) for edge in edges[:3])
    if isinstance(x, Tensor) and adds_channels and edges[3][0] == 0 and x.channels is None:
        return dataclasses.replace(x, channels=shape[-1])
    if len(shape) == 4:
        edges = [edges[axis] for axis in TO_ONNX]
    return graph.add("Pad", [x], shape, np.array(_pads(edges)), fill)


def _update(graph: Graph, _: Any, shape: Sequence[Any], x: Value, y: Value, *starts: Value) -> Value:
    """Channels that replace the padded ones are concatenated."""
    constant = [int(start) if isinstance(start, np.ndarray) else None for start in starts]
    if isinstance(x, np.ndarray) or x.channels is None or constant != [0, 0, 0, x.shape[-1]]:
        raise ConfigError("an array that is changed in place cannot be written as ONNX")
    joined = (*shape[:3], x.shape[-1] + y.shape[-1])
    both = graph.add("Concat", [dataclasses.replace(x, channels=None), y], joined, axis=1)
    return dataclasses.replace(both, channels=shape[-1] if joined[-1] < shape[-1] else None)


def _transpose(graph: Graph, parameters: Any, shape: Sequence[Any], x: Value) -> Value:
    order = parameters["permutation"]
    if len(shape) == 4:
        order = [AXES[order[axis]] for axis in TO_ONNX]
    return graph.add("Transpose", [x], shape, perm=list(order))


BROADCASTING: dict[str, Callable[..., Value]] = {
    "div": _divide,
    "max": _max,
    "clamp": _clamp,
    "select_n": _select,
    "integer_pow": _integer_power,
    "rsqrt": _reciprocal_root,
    "square": _square,
    "erfc": _error_function_complement,
    "copy": _identity,
    "name": _identity,
    "stop_gradient": _identity,
    "convert_element_type": _cast,
    "broadcast_in_dim": _broadcast_in_dim,
    **{name: _elementwise(operator) for name, operator in ELEMENTWISE.items()},
}
"""Operations of JAX whose operators in ONNX broadcast, by name."""
OPERATIONS: dict[str, Callable[..., Value]] = {
    **BROADCASTING,
    "conv_general_dilated": _convolution,
    "dot_general": _product,
    "reduce_window_max": _pool("MaxPool"),
    "reduce_window_sum": _pool("AveragePool", count_include_pad=1),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_sum": _reduce("ReduceMean"),
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "concatenate": _concatenate,
    "stack": _stack,
    "slice": _slice,
    "pad": _pad,
    "dynamic_update_slice": _update,
    "transpose": _transpose,
}
"""The function that writes each operation: (graph, parameters, shape of the result, inputs) -> the result."""
