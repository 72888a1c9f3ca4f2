"""The scalar autodiff engine: gradients, kinks, depth and determinism."""

import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studies.by_hand.scalar import Value


def _leaky_relu(x: Any) -> Any:
    """Returns leaky ReLU of a Value or a tensor; tensors have no such method."""
    if isinstance(x, Value):
        return x.leaky_relu()
    import torch

    return torch.nn.functional.leaky_relu(x)


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "x + y": lambda x, y: x + y,
    "x - y": lambda x, y: x - y,
    "x * y": lambda x, y: x * y,
    "x / y": lambda x, y: x / y,
    "x ** y": lambda x, y: x**y,
    "-x": lambda x, y: -x,
    "x + 2": lambda x, y: x + 2,
    "2 + x": lambda x, y: 2 + x,
    "x - 2": lambda x, y: x - 2,
    "2 - x": lambda x, y: 2 - x,
    "x * 3": lambda x, y: x * 3,
    "3 * x": lambda x, y: 3 * x,
    "x / 4": lambda x, y: x / 4,
    "4 / x": lambda x, y: 4 / x,
    "x ** 3": lambda x, y: x**3,
    "x ** -0.5": lambda x, y: x**-0.5,
    "2 ** x": lambda x, y: 2**x,
    "x used twice": lambda x, y: x * x + y / x,
    "tanh": lambda x, y: x.tanh(),
    "exp": lambda x, y: x.exp(),
    "sigmoid": lambda x, y: x.sigmoid(),
    "relu": lambda x, y: x.relu() + (-y).relu(),
    "leaky_relu": lambda x, y: _leaky_relu(x) * _leaky_relu(y),
    "all together": lambda x, y: ((x * y - 1).tanh() ** 2 + (x / (1 + y.exp())).relu()) ** 1.5,
}
POINTS = [(0.7, 1.3), (1.9, 0.4), (2.5, -1.2), (0.3, -0.8)]


def _gradients(function: Callable[[Any, Any], Any], x: float, y: float) -> tuple[float, ...]:
    leaves = Value(x), Value(y)
    result = function(*leaves)
    result.backward()
    return (result.data, *(leaf.gradient for leaf in leaves))


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("point", POINTS)
def test_gradients_match_finite_differences(name: str, point: tuple[float, float]) -> None:
    function, h = OPERATORS[name], 1e-6

    def at(x: float, y: float) -> float:
        return function(Value(x), Value(y)).data

    x, y = point
    _, by_x, by_y = _gradients(function, x, y)
    assert by_x == pytest.approx((at(x + h, y) - at(x - h, y)) / (2 * h), rel=1e-6, abs=1e-8)
    assert by_y == pytest.approx((at(x, y + h) - at(x, y - h)) / (2 * h), rel=1e-6, abs=1e-8)


KINKS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], float, float, float]] = {
    # ours, PyTorch's, point, value, slope
    "relu at 0": (Value.relu, lambda t: t.relu(), 0.0, 0.0, 0.0),
    "relu at -inf": (Value.relu, lambda t: t.relu(), -math.inf, 0.0, 0.0),
    "relu at nan": (Value.relu, lambda t: t.relu(), math.nan, math.nan, 1.0),
    "leaky_relu at 0": (_leaky_relu, _leaky_relu, 0.0, 0.0, 0.01),
    "leaky_relu at nan": (_leaky_relu, _leaky_relu, math.nan, math.nan, 0.01),
    "x ** 0 at 0": (lambda v: v**0, lambda t: t**0, 0.0, 1.0, 0.0),
    "x ** 1 at 0": (lambda v: v**1, lambda t: t**1, 0.0, 0.0, 1.0),
    "x ** 2 at 0": (lambda v: v**2, lambda t: t**2, 0.0, 0.0, 0.0),
    "x ** 0.5 at 0": (lambda v: v**0.5, lambda t: t**0.5, 0.0, 0.0, math.inf),
    "x ** -1 at 0": (lambda v: v**-1, lambda t: t**-1, 0.0, math.inf, -math.inf),
    "x ** 0.5 at -1": (lambda v: v**0.5, lambda t: t**0.5, -1.0, math.nan, math.nan),
    "0 ** x at 2": (lambda v: 0**v, lambda t: 0**t, 2.0, 0.0, 0.0),
    "1 / x at 0": (lambda v: 1 / v, lambda t: 1 / t, 0.0, math.inf, -math.inf),
    "exp at 1000": (Value.exp, lambda t: t.exp(), 1000.0, math.inf, math.inf),
    "sigmoid at -1000": (Value.sigmoid, lambda t: t.sigmoid(), -1000.0, 0.0, 0.0),
    "sigmoid at 1000": (Value.sigmoid, lambda t: t.sigmoid(), 1000.0, 1.0, 0.0),
    "tanh at 1000": (Value.tanh, lambda t: t.tanh(), 1000.0, 1.0, 0.0),
}


@pytest.mark.parametrize("name", KINKS)
def test_values_and_slopes_at_kinks_and_infinities(name: str) -> None:
    function, _, x, value, slope = KINKS[name]
    leaf = Value(x)
    result = function(leaf)
    result.backward()
    assert (result.data, leaf.gradient) == pytest.approx((value, slope), nan_ok=True)


def test_deep_chain_exceeds_the_recursion_limit() -> None:
    links = 10 * sys.getrecursionlimit()
    leaf = Value(1.0)
    value = leaf
    for _ in range(links):
        value = value + 1.0
    value.backward()
    assert (value.data, leaf.gradient) == (1.0 + links, 1.0)


def test_shared_value_accumulates_gradients() -> None:
    leaf = Value(3.0)
    shared = leaf * leaf
    total = sum(shared * factor for factor in range(5))
    assert isinstance(total, Value)
    total.backward()
    assert (shared.gradient, leaf.gradient) == (10.0, 60.0)


def test_second_backward_accumulates_only_in_leaves() -> None:
    leaf = Value(2.0)
    intermediate = leaf**2
    result = intermediate * 3
    result.backward()
    result.backward()
    assert (intermediate.gradient, leaf.gradient) == (3.0, 24.0)
    lone = Value(1.0)
    lone.backward()
    assert lone.gradient == 1.0


def test_numpy_numbers_as_operands() -> None:
    leaf = Value(2.0)
    result = np.float64(3.0) * leaf + leaf * np.float32(0.5)
    assert isinstance(result, Value)
    result.backward()
    assert (result.data, leaf.gradient) == (7.0, 3.5)


@pytest.mark.parametrize("other", ["1", None, [1.0], np.ones(2)])
def test_other_operands_raise(other: object) -> None:
    with pytest.raises(TypeError, match="unsupported operand for Value"):
        Value(1.0) * other  # pyrefly: ignore
    with pytest.raises(TypeError, match=r"unsupported operand for Value|can't multiply"):
        other * Value(1.0)  # pyrefly: ignore


PROGRAM = """
import numpy as np
from studies.by_hand import scalar_network
generator = np.random.default_rng(0)
layers = [(generator.normal(size=(6, 6)), generator.normal(size=6)) for _ in range(3)]
trace = scalar_network.gradient_step(
    layers, generator.normal(size=(5, 6)), generator.normal(size=(5, 6)),
    activations=("tanh", "sigmoid", "tanh"), loss="mean_squared_error", learning_rate=0.1,
)
print(b"".join(values.tobytes() for layer in trace.gradients for values in layer).hex())
"""


def test_results_do_not_depend_on_memory_addresses() -> None:
    """A set would iterate in the order of memory addresses, which differ between runs."""
    program, results, allocated = PROGRAM.replace("print(", "results.append("), [], []
    for run in range(5):
        allocated.append([Value(number) for number in range(run * 97)][:: run + 1])  # leaves gaps
        exec(program, {"results": results})
    assert len(set(results)) == 1
    assert len(results[0]) > 1000


@pytest.mark.slow
def test_processes_give_identical_results() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    results = [process.communicate(timeout=120)[0] for process in processes]
    assert results[0] == results[1]
    assert len(results[0]) > 1000


@pytest.mark.oracle
class TestPyTorch:
    @pytest.mark.parametrize("name", [n for n in OPERATORS if n != "all together"])
    @pytest.mark.parametrize("point", POINTS)
    def test_operators(self, name: str, point: tuple[float, float]) -> None:
        torch = pytest.importorskip("torch")
        x, y = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in point)
        result = OPERATORS[name](x, y)
        result.backward()
        expected = (result.item(), *(0.0 if t.grad is None else t.grad.item() for t in (x, y)))
        assert _gradients(OPERATORS[name], *point) == pytest.approx(expected, rel=1e-14, nan_ok=True)

    @pytest.mark.parametrize("name", KINKS)
    def test_kinks(self, name: str) -> None:
        torch = pytest.importorskip("torch")
        _, theirs, x, value, slope = KINKS[name]
        leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        result = theirs(leaf)
        result.backward()
        assert (result.item(), leaf.grad.item()) == pytest.approx((value, slope), nan_ok=True)

    def test_random_expressions(self) -> None:
        torch = pytest.importorskip("torch")
        generator = random.Random(0)
        binary = [OPERATORS[name] for name in ("x + y", "x - y", "x * y")]
        unary = [OPERATORS[name] for name in ("tanh", "sigmoid", "relu", "2 - x", "x / 4")]
        for _ in range(50):
            numbers = [generator.uniform(-2, 2) for _ in range(4)]
            leaves = [Value(number) for number in numbers]
            theirs = [torch.tensor(n, dtype=torch.float64, requires_grad=True) for n in numbers]
            values, tensors = list(leaves), list(theirs)
            for _ in range(30):
                one, other = (generator.randrange(len(values)) for _ in range(2))
                operator = generator.choice([*binary, *unary])
                values.append(operator(values[one], values[other]).tanh())
                tensors.append(operator(tensors[one], tensors[other]).tanh())
            values[-1].backward()
            tensors[-1].backward()
            expected = [0.0 if leaf.grad is None else leaf.grad.item() for leaf in theirs]
            gradients = [leaf.gradient for leaf in leaves]
            assert gradients == pytest.approx(expected, rel=1e-11, abs=1e-14)
