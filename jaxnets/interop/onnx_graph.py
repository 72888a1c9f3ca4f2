"""A graph of ONNX that is being written: its nodes, its constants, and the order of the axes in it.

Arrays of four dimensions, [B, H, W, C] in JAX, are [B, C, H, W] in the graph, as ONNX's operators take them.
"""

import collections
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

TO_ONNX = (0, 3, 1, 2)
"""From [B, H, W, C] to [B, C, H, W]."""
AXES = (0, 2, 3, 1)
"""The axis in the graph of each axis of [B, H, W, C]."""


@dataclasses.dataclass
class Tensor:
    """An array of the graph.

    Attributes:
        name: in the graph.
        shape: in JAX's order of axes, with 1 where the program broadcasts, and for the batch.
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


class Graph:
    """The nodes and the constants of a graph that is being written."""

    def __init__(self, onnx: Any):
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._onnx = onnx
        self._constants: dict[tuple[Any, ...], str] = {}
        self._arrays: dict[str, np.ndarray] = {}

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
        return Tensor(output, tuple(shape), node)

    def type_of(self, dtype: Any) -> int:
        """ONNX's number of a dtype."""
        return self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

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
            self._arrays[self._constants[key]] = array
            self.initializers.append(self._onnx.numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def simplify(self, outputs: Sequence[str]) -> None:
        """Removes what no output depends on, and makes sums after convolutions their biases."""
        readers = collections.Counter(name for node in self._needed(outputs) for name in node.input)
        writers = {node.output[0]: node for node in self.nodes}
        for node in self._needed(outputs):
            for value, other in itertools.permutations(node.input) if node.op_type == "Add" else ():
                conv = writers.get(value)
                if conv is None or (conv.op_type, len(conv.input), readers[value]) != ("Conv", 2, 1):
                    continue
                if other in self._arrays and self._arrays[other].shape == (1, self._arrays[other].size, 1, 1):
                    conv.input.append(self._constant(self._arrays[other].reshape(-1)))
                    conv.output[0] = node.output[0]
                    self.nodes.remove(node)
                    break
        self.nodes = self._needed(outputs)
        read = {name for node in self.nodes for name in node.input}
        self.initializers = [constant for constant in self.initializers if constant.name in read]

    def _needed(self, outputs: Sequence[str]) -> list[Any]:
        """The nodes on which outputs depend."""
        read, needed = set(outputs), []
        for node in reversed(self.nodes):
            if node.output[0] in read:
                read.update(node.input)
                needed.append(node)
        return needed[::-1]


def to_channels_first(graph: Graph, value: Tensor) -> Tensor:
    """An array in JAX's order of axes, in the graph's."""
    if len(value.shape) != 4:
        return value
    return graph.add("Transpose", [value], value.shape, perm=list(TO_ONNX))


def to_jax(graph: Graph, value: Value) -> Value:
    """A value of the graph, in JAX's order of axes."""
    if isinstance(value, np.ndarray) or len(value.shape) != 4:
        return value
    return graph.add("Transpose", [value], value.shape, perm=list(AXES))


def axis_in_graph(axis: int, dimensions: int) -> int:
    """The axis of the graph's array."""
    return AXES[axis] if dimensions == 4 else axis
