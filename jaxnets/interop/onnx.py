"""Writes a program of JAX as an ONNX graph, operation by operation.

Images are [B, C, H, W] in the graph, as ONNX's operators take them, so every array of four dimensions is
transposed: constants when the graph is written, the graph's inputs by a Transpose. Needs the package `onnx`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import export as jax_export
from jax.extend import core

from jaxnets.errors import ConfigError

OPSET, IR_VERSION = 17, 8
"""The version of ONNX's operators; onnxruntime 1.12 and OpenVINO 2022.2 are the first that know it."""
TO_ONNX = (0, 3, 1, 2)
"""From [B, H, W, C] to [B, C, H, W]."""
AXES = (0, 2, 3, 1)
"""The axis in the graph of each axis of [B, H, W, C]."""
KERNEL_TO_ONNX = (3, 2, 0, 1)
"""From [kh, kw, C_in, C_out] to [C_out, C_in, kh, kw]."""
CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint")
ELEMENTWISE = {
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


@dataclasses.dataclass
class Tensor:
    """An array of the graph.

    Attributes:
        name: in the graph.
        shape: in JAX's order of axes, with 1 where the program broadcasts; the batch is symbolic.
        node: the node that computes it, None for an input.
        channels: the number of channels to which the program pads it with zeros, None if it does not. The
            graph pads it only for operations that read them.
        factor: what the array in the graph has to be multiplied by.
    """

    name: str
    shape: tuple[Any, ...]
    node: Any = None
    channels: int | None = None
    factor: float = 1.0


Value = Tensor | np.ndarray
"""What a variable of the program is in the graph; arrays are constants, in JAX's order of axes."""


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
        function: images [B, H, W, C] -> a tuple of arrays [B, ...]. Without custom calls: a network has the
            implementation "xla".
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
    (batch,) = jax_export.symbolic_shape("batch")
    shape = (batch, *images.shape)
    program = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(shape, images.dtype))
    graph = _Graph(onnx)
    source = _to_channels_first(graph, Tensor(input_name, shape))
    outputs = graph.run(program.jaxpr, program.consts, [source])
    named = []
    for name, value, spec in zip(output_names, outputs, program.out_avals, strict=True):
        graph.nodes.append(onnx.helper.make_node("Identity", [graph.name(_to_jax(graph, value))], [name]))
        named.append(_describe(onnx, name, spec.shape, spec.dtype))
    graph.remove_unread(output_names)
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
    extents = ["batch" if not isinstance(extent, int) else extent for extent in shape]
    return onnx.helper.make_tensor_value_info(
        name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), extents
    )


class _Graph:
    """The nodes and the constants of a graph that is being written."""

    def __init__(self, onnx: Any):
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._onnx = onnx
        self._constants: dict[tuple[Any, ...], str] = {}
        self._read: set[str] = set()

    def add(
        self,
        operator: str,
        inputs: Sequence[Value],
        shape: Sequence[Any],
        *parameters: np.ndarray,
        **attributes: Any,
    ) -> Tensor:
        """Appends a node of one output; `parameters` are further constants, in ONNX's order of axes."""
        names = [*map(self.name, inputs), *map(self._constant, parameters)]
        output = f"{operator.lower()}_{len(self.nodes)}"
        node = self._onnx.helper.make_node(operator, names, [output], name=output, **attributes)
        self.nodes.append(node)
        self._read.update(names)
        return Tensor(output, tuple(shape), node)

    def type_of(self, dtype: Any) -> int:
        """ONNX's number of a dtype."""
        return self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def add_bias(self, value: Tensor, bias: np.ndarray) -> None:
        """Makes an array [C] the bias of the convolution that computes the value."""
        value.node.input.append(self._constant(bias))

    def takes_bias(self, value: Tensor) -> bool:
        """Whether this is a convolution without bias that no other node reads so far."""
        is_convolution = value.node is not None and value.node.op_type == "Conv"
        return is_convolution and len(value.node.input) == 2 and value.name not in self._read

    def name(self, value: Value) -> str:
        """The name of a value in the graph, as the program has it: scaled and padded."""
        if isinstance(value, np.ndarray):
            return self._constant(value.transpose(TO_ONNX) if value.ndim == 4 else value)
        if value.factor != 1:
            factor = np.array(value.factor, np.float32)
            value = self.add("Mul", [dataclasses.replace(value, factor=1)], value.shape, factor)
        if value.channels is not None:
            edges = np.array([0, 0, 0, 0, 0, value.channels - value.shape[-1], 0, 0])
            value = self.add("Pad", [dataclasses.replace(value, channels=None)], value.shape, edges)
        return value.name

    def _constant(self, array: np.ndarray) -> str:
        """The name of a constant; equal ones are stored once."""
        array = np.ascontiguousarray(array)
        key = (array.shape, array.dtype.str, array.tobytes())
        if key not in self._constants:
            self._constants[key] = f"constant_{len(self._constants)}"
            self.initializers.append(self._onnx.numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def remove_unread(self, outputs: Sequence[str]) -> None:
        """Removes nodes and constants that no output depends on."""
        read = set(outputs)
        for node in reversed(self.nodes):
            if node.output[0] in read:
                read.update(node.input)
        self.nodes = [node for node in self.nodes if node.output[0] in read]
        self.initializers = [constant for constant in self.initializers if constant.name in read]

    def run(self, program: core.Jaxpr, constants: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
        """Writes the operations of a program, and returns its outputs."""
        values: dict[Any, Value] = dict(zip(program.constvars, map(np.asarray, constants), strict=True))
        values |= dict(zip(program.invars, inputs, strict=True))

        def read(variable: Any) -> Value:
            return np.asarray(variable.val) if isinstance(variable, core.Literal) else values[variable]

        for equation in program.eqns:
            results = self._write(equation, [read(variable) for variable in equation.invars])
            values |= dict(zip(equation.outvars, results, strict=True))
        return [read(variable) for variable in program.outvars]

    def _write(self, equation: core.JaxprEqn, inputs: list[Value]) -> Sequence[Value]:
        name, parameters = equation.primitive.name, equation.params
        if name in CALLS:
            called = next(
                parameters[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in parameters
            )
            closed = called if isinstance(called, core.ClosedJaxpr) else core.ClosedJaxpr(called, ())
            return self.run(closed.jaxpr, closed.consts, inputs)
        shapes = [variable.aval.shape for variable in equation.outvars]
        static = all(isinstance(extent, int) for shape in shapes for extent in shape)
        if inputs and static and all(isinstance(value, np.ndarray) for value in inputs):
            results = equation.primitive.bind(*inputs, **parameters)
            return [
                np.asarray(each) for each in (results if equation.primitive.multiple_results else [results])
            ]
        if name not in OPERATIONS:
            raise ConfigError(f"the operation {name} of this network cannot be written as ONNX")
        if name not in BROADCASTING:
            inputs = [_broadcast(v, e.aval.shape, name) for v, e in zip(inputs, equation.invars, strict=True)]
        return [OPERATIONS[name](self, parameters, shapes[0], *inputs)]


def _broadcast(value: Value, shape: Sequence[Any], operation: str) -> Value:
    """The value with the shape that the program has; operators that broadcast do not need it."""
    extents = (
        value.shape
        if isinstance(value, np.ndarray) or value.channels is None
        else (*value.shape[:-1], value.channels)
    )
    if tuple(extents) == tuple(shape):
        return value
    if isinstance(value, np.ndarray) and all(isinstance(extent, int) for extent in shape):
        return np.broadcast_to(value, shape)
    raise ConfigError(f"the operation {operation} of a broadcast array cannot be written as ONNX")


def _to_channels_first(graph: _Graph, value: Tensor) -> Tensor:
    """An array in JAX's order of axes, in the graph's."""
    if len(value.shape) != 4:
        return value
    return graph.add("Transpose", [value], value.shape, perm=list(TO_ONNX))


def _to_jax(graph: _Graph, value: Value) -> Value:
    """A value of the graph, in JAX's order of axes; pixels of one by one are not moved."""
    if isinstance(value, np.ndarray) or len(value.shape) != 4 or tuple(value.shape[1:3]) == (1, 1):
        return value
    return graph.add("Transpose", [value], value.shape, perm=list(AXES))


def _axis(axis: int, dimensions: int) -> int:
    """The axis of the graph's array."""
    return AXES[axis] if dimensions == 4 else axis


def _elementwise(operator: str) -> Callable[..., Value]:
    def write(graph: _Graph, _: Any, shape: Sequence[Any], *inputs: Value) -> Value:
        return graph.add(operator, inputs, shape)

    return write


def _add(graph: _Graph, _: Any, shape: Sequence[Any], x: Value, y: Value) -> Value:
    """A sum; one number for each channel of a convolution is its bias."""
    for value, other in ((x, y), (y, x)):
        if isinstance(value, np.ndarray) or isinstance(other, Tensor) or not graph.takes_bias(value):
            continue
        if other.size == shape[-1] == other.shape[-1]:
            graph.add_bias(value, other.reshape(-1))
            return value
    return graph.add("Add", [x, y], shape)


def _divide(graph: _Graph, _: Any, shape: Sequence[Any], x: Value, y: Value) -> Value:
    """A quotient; a sum over pixels, divided by their number, is a mean."""
    if isinstance(x, np.ndarray) or isinstance(y, Tensor) or x.factor == 1:
        return graph.add("Div", [x, y], shape)
    factor = x.factor / y
    if np.all(factor == factor.flat[0]):
        return dataclasses.replace(x, factor=float(factor.flat[0]))
    return graph.add("Mul", [dataclasses.replace(x, factor=1.0), factor], shape)


def _max(graph: _Graph, _: Any, shape: Sequence[Any], x: Value, y: Value) -> Value:
    for value, other in ((x, y), (y, x)):
        if isinstance(other, np.ndarray) and other.size and not other.any():
            return graph.add("Relu", [value], shape)
    return graph.add("Max", [x, y], shape)


def _clamp(graph: _Graph, _: Any, shape: Sequence[Any], low: Value, x: Value, high: Value) -> Value:
    return graph.add("Clip", [x, low, high], shape)


def _select(graph: _Graph, _: Any, shape: Sequence[Any], condition: Value, no: Value, yes: Value) -> Value:
    if isinstance(condition, np.ndarray) and condition.size == 1:
        return yes if condition.item() else no
    return graph.add("Where", [condition, yes, no], shape)


def _integer_power(graph: _Graph, parameters: Any, shape: Sequence[Any], x: Value) -> Value:
    return graph.add("Pow", [x], shape, np.array(parameters["y"], np.float32))


def _reciprocal_root(graph: _Graph, _: Any, shape: Sequence[Any], x: Value) -> Value:
    return graph.add("Reciprocal", [graph.add("Sqrt", [x], shape)], shape)


def _square(graph: _Graph, _: Any, shape: Sequence[Any], x: Value) -> Value:
    return graph.add("Mul", [x, x], shape)


def _batch_size(graph: _Graph, _: Any, shape: Sequence[Any]) -> Value:
    """The batch size, from which JAX computes negative indices; what reads it is left out of the graph."""
    return Tensor("batch", tuple(shape))


def _identity(graph: _Graph, _: Any, shape: Sequence[Any], x: Value) -> Value:
    return x


def _cast(graph: _Graph, parameters: Any, shape: Sequence[Any], x: Value) -> Value:
    return graph.add("Cast", [x], shape, to=graph.type_of(parameters["new_dtype"]))


def _convolution(graph: _Graph, parameters: Any, shape: Sequence[Any], x: Value, kernel: Value) -> Value:
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


def _product(graph: _Graph, parameters: Any, shape: Sequence[Any], x: Value, y: Value) -> Value:
    if parameters["dimension_numbers"] != (((1,), (0,)), ((), ())) or len(x.shape) != 2:
        raise ConfigError("a product of arrays other than matrices cannot be written as ONNX")
    return graph.add("MatMul", [x, y], shape)


def _pool(operator: str, **attributes: Any) -> Callable[..., Value]:
    def write(graph: _Graph, parameters: Any, shape: Sequence[Any], x: Value, *_: Value) -> Value:
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

    def write(graph: _Graph, parameters: Any, shape: Sequence[Any], x: Value) -> Value:
        axes = parameters["axes"]
        positions = sorted(_axis(axis, len(x.shape)) for axis in axes)
        if len(x.shape) == 4 and len(shape) == 3:  # their order matters
            x, positions = _to_jax(graph, x), sorted(axes)
        y = graph.add(operator, [x], shape, axes=positions, keepdims=0)
        if operator != "ReduceMean":
            return y
        return dataclasses.replace(y, factor=float(math.prod(x.shape[axis] for axis in axes)))

    return write


def _reshape(graph: _Graph, _: Any, shape: Sequence[Any], x: Value) -> Value:
    extents = np.array([extent if isinstance(extent, int) else -1 for extent in shape])
    if len(shape) == 4 and tuple(shape[1:3]) == (1, 1):
        return graph.add("Reshape", [_to_jax(graph, x)], shape, extents[list(TO_ONNX)])
    return _to_channels_first(graph, graph.add("Reshape", [_to_jax(graph, x)], shape, extents))


def _broadcast_in_dim(graph: _Graph, parameters: Any, shape: Sequence[Any], x: Value, *_: Value) -> Value:
    """The array with axes of one element; the operators that read it broadcast."""
    extents = [1] * len(shape)
    for axis, position in enumerate(parameters["broadcast_dimensions"]):
        extents[position] = x.shape[axis]
    if isinstance(x, np.ndarray):
        return x.reshape(extents)
    return x if len(extents) == len(x.shape) else _reshape(graph, {}, extents, x)


def _concatenate(graph: _Graph, parameters: Any, shape: Sequence[Any], *arrays: Value) -> Value:
    return graph.add("Concat", arrays, shape, axis=_axis(parameters["dimension"], len(shape)))


def _stack(graph: _Graph, parameters: Any, shape: Sequence[Any], *arrays: Value) -> Value:
    axis = parameters["axis"]
    extents = (*shape[:axis], 1, *shape[axis + 1 :])
    parts = [_reshape(graph, {}, extents, array) for array in arrays]
    return graph.add("Concat", parts, shape, axis=_axis(axis, len(shape)))


def _slice(graph: _Graph, parameters: Any, shape: Sequence[Any], x: Value) -> Value:
    if isinstance(x, Tensor) and x.channels is not None and _is_first(x, parameters, shape):
        x = dataclasses.replace(x, channels=None)
    strides = parameters["strides"] or (1,) * len(shape)
    bounds = zip(parameters["start_indices"], parameters["limit_indices"], strides, x.shape, strict=True)
    cut = [(axis, *bound[:3]) for axis, bound in enumerate(bounds) if bound[:3] != (0, bound[3], 1)]
    if not cut:
        return x
    axes, starts, limits, steps = (np.array(each) for each in zip(*cut, strict=True))
    positions = np.array([_axis(axis, len(shape)) for axis in axes])
    return graph.add("Slice", [x], shape, starts, limits, positions, steps)


def _is_first(x: Tensor, parameters: Any, shape: Sequence[Any]) -> bool:
    """Whether a slice reads the first channels only, without those that were padded."""
    return parameters["start_indices"][-1] == 0 and shape[-1] <= x.shape[-1]


def _pad(graph: _Graph, parameters: Any, shape: Sequence[Any], x: Value, fill: Value) -> Value:
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


def _update(graph: _Graph, _: Any, shape: Sequence[Any], x: Value, y: Value, *starts: Value) -> Value:
    """Channels that replace the padded ones are concatenated."""
    constant = [int(start) if isinstance(start, np.ndarray) else None for start in starts]
    if isinstance(x, np.ndarray) or x.channels is None or constant != [0, 0, 0, x.shape[-1]]:
        raise ConfigError("an array that is changed in place cannot be written as ONNX")
    joined = (*shape[:3], x.shape[-1] + y.shape[-1])
    both = graph.add("Concat", [dataclasses.replace(x, channels=None), y], joined, axis=1)
    return dataclasses.replace(both, channels=shape[-1] if joined[-1] < shape[-1] else None)


def _transpose(graph: _Graph, parameters: Any, shape: Sequence[Any], x: Value) -> Value:
    order = parameters["permutation"]
    if len(shape) == 4:
        order = [AXES[order[axis]] for axis in TO_ONNX]
    return graph.add("Transpose", [x], shape, perm=list(order))


BROADCASTING: dict[str, Callable[..., Value]] = {
    "add": _add,
    "add_any": _add,
    "div": _divide,
    "max": _max,
    "clamp": _clamp,
    "select_n": _select,
    "integer_pow": _integer_power,
    "rsqrt": _reciprocal_root,
    "square": _square,
    "copy": _identity,
    "copy_p": _identity,
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
    "dim_as_value": _batch_size,
}
"""The function that writes each operation: (graph, parameters, shape of the result, inputs) -> the result."""
