"""A scalar reverse-mode autodiff engine."""

import math
import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np

from studies.by_hand.activations import NEGATIVE_SLOPE


class Value:
    """A double with its operands and, after `root.backward()`, the gradient ∂root/∂self.

    Arithmetic is IEEE 754 as in PyTorch: 1 / 0 is inf, not an exception. At 0 the derivative of relu is 0 and
    that of leaky_relu the negative slope, also as in PyTorch.
    """

    __slots__ = ("_edges", "data", "gradient")
    __array_ufunc__ = None  # for `numpy_number * value`

    def __init__(self, data: float) -> None:
        self.data = float(data)
        self.gradient = 0.0
        self._edges: tuple[tuple[Value, float], ...] = ()  # operands and partial derivatives

    def __repr__(self) -> str:
        return f"Value(data={self.data!r}, gradient={self.gradient!r})"

    def __add__(self, other: "Value | float") -> "Value":
        return _node(self.data + _number(other), (self, 1.0), (other, 1.0))

    def __mul__(self, other: "Value | float") -> "Value":
        factor = _number(other)
        return _node(self.data * factor, (self, factor), (other, self.data))

    def __neg__(self) -> "Value":
        return _node(-self.data, (self, -1.0))

    def __sub__(self, other: "Value | float") -> "Value":
        return _node(self.data - _number(other), (self, 1.0), (other, -1.0))

    def __rsub__(self, other: float) -> "Value":
        return _node(_number(other) - self.data, (self, -1.0))

    def __truediv__(self, other: "Value | float") -> "Value":
        return _quotient(self, other)

    def __rtruediv__(self, other: float) -> "Value":
        return _quotient(other, self)

    def __pow__(self, other: "Value | float") -> "Value":
        return _power(self, other)

    def __rpow__(self, other: float) -> "Value":
        return _power(other, self)

    __radd__ = __add__
    __rmul__ = __mul__

    def exp(self) -> "Value":
        """Returns e^x."""
        result = _ieee(np.exp, self.data)
        return _node(result, (self, result))

    def tanh(self) -> "Value":
        """Returns the hyperbolic tangent."""
        result = math.tanh(self.data)
        return _node(result, (self, 1 - result**2))

    def sigmoid(self) -> "Value":
        """Returns 1 / (1 + e^-x)."""
        result, mirrored = (1 / (1 + _ieee(np.exp, x)) for x in (-self.data, self.data))
        return _node(result, (self, result * mirrored))

    def relu(self) -> "Value":
        """Returns max(x, 0); propagates NaN."""
        result, slope = (0.0, 0.0) if self.data <= 0 else (self.data, 1.0)
        return _node(result, (self, slope))

    def leaky_relu(self, negative_slope: float = NEGATIVE_SLOPE) -> "Value":
        """Returns x if x > 0, else negative_slope * x."""
        slope = 1.0 if self.data > 0 else negative_slope
        return _node(slope * self.data, (self, slope))

    def backward(self) -> None:
        """Adds ∂self/∂leaf to the gradient of every leaf and sets the gradients of intermediate values.

        As in PyTorch, a second call accumulates: set the gradients of leaves to 0 before. Sums follow the
        order of operands, so results are bit-exact.
        """
        order = self._in_topological_order()
        for value in order:
            if value._edges:
                value.gradient = 0.0
        self.gradient += 1.0
        for value in reversed(order):
            for operand, slope in value._edges:
                operand.gradient += slope * value.gradient

    def _in_topological_order(self) -> list["Value"]:
        """Returns all operands before their results; iterative, to support graphs of any depth."""
        order: list[Value] = []
        seen = {id(self)}  # never iterated: its order is not deterministic
        stack: list[tuple[Value, Iterator[tuple[Value, float]]]] = [(self, iter(self._edges))]
        while stack:
            value, edges = stack[-1]
            for operand, _ in edges:
                if id(operand) not in seen:
                    seen.add(id(operand))
                    stack.append((operand, iter(operand._edges)))
                    break
            else:
                order.append(value)
                stack.pop()
        return order


def _node(data: float, *edges: tuple[Value | float, float]) -> Value:
    """Returns the result of an operation; only Value operands get gradients."""
    result = Value(data)
    result._edges = tuple((o, slope) for o, slope in edges if isinstance(o, Value))
    return result


def _number(operand: Value | float) -> float:
    if isinstance(operand, Value):
        return operand.data
    if isinstance(operand, numbers.Real):
        return float(operand)
    raise TypeError(f"unsupported operand for Value: {type(operand).__name__}; use numbers or Values")


def _ieee(function: Any, *operands: float) -> float:
    with np.errstate(all="ignore"):  # inf and nan are valid results
        return float(function(*operands))


def _quotient(dividend: Value | float, divisor: Value | float) -> Value:
    x, y = _number(dividend), _number(divisor)
    result = _ieee(np.divide, x, y)
    slopes = _ieee(np.divide, 1.0, y), _ieee(np.divide, -result, y)
    return _node(result, (dividend, slopes[0]), (divisor, slopes[1]))


def _power(base: Value | float, exponent: Value | float) -> Value:
    """Returns base^exponent; as in PyTorch, d/dbase is 0 for exponent 0 and d/dexponent is 0 for base 0."""
    x, n = _number(base), _number(exponent)
    result = _ieee(np.power, x, n)
    base_slope = n * _ieee(np.power, x, n - 1) if n else 0.0
    exponent_slope = 0.0 if x == 0 and n >= 0 else result * _ieee(np.log, x)
    return _node(result, (base, base_slope), (exponent, exponent_slope))
