"""The numbers in docs/building_blocks.md, computed in float64 by the code that it describes."""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from studies.by_hand.activations import activation
from studies.by_hand.blocks import adam, convolution, dropout, network, pooling, softmax
from studies.pages import building_blocks_valley as valley
from studies.pages import digits_side_by_side as sides

BRIGHT_CORNER = np.array([[3.0 * (i > 1 and j > 1) for j in range(5)] for i in range(5)])
VERTICAL_EDGES = np.array([[-1.0, 0.0, 1.0]] * 3)
ACTIVATIONS = ("step", "relu", "leaky_relu", "sigmoid", "tanh")
TRAINING_STEPS = 200


def of_convolution() -> str:
    """A convolution with the report's sizes, 5x5 and 3x3, and the gradient of an output pixel."""
    x, kernel, bias = image(BRIGHT_CORNER), VERTICAL_EDGES[:, :, None, None], jnp.zeros(1)
    y = jax.jit(convolution.convolution)(x, kernel, bias)
    centre = jnp.zeros_like(y).at[0, 1, 1, 0].set(1.0)
    by_x, by_kernel, _ = jax.jit(convolution.convolution_backward)(centre, x, kernel)
    shown = {
        "input": BRIGHT_CORNER,
        "filter": VERTICAL_EDGES,
        "output": y[0, :, :, 0],
        "by the filter": by_kernel[:, :, 0, 0],
        "by the input": by_x[0, :, :, 0],
    }
    columns = [[name, *(_numbers(row, "2g") for row in grid)] for name, grid in shown.items()]
    lines = [_table(columns), "", "stride  padding  output"]
    for stride, pad in itertools.product((1, 2), (0, 1)):
        sizes = {"strides": (stride, stride), "padding": ((pad, pad), (pad, pad))}
        sized = functools.partial(convolution.convolution, **sizes)
        side = jax.eval_shape(sized, x, kernel, bias).shape[1]
        lines.append(f"{stride:<6}  {pad:<7}  {side}x{side}")
    return "\n".join(lines)


def of_pooling() -> str:
    """Poolings of windows of four values, and their gradients for an output gradient of 1."""
    columns = [["window"], ["max"], ["gradient"], ["average"], ["gradient"]]
    for window in ([1, 3, 2, 4], [0, 0, 0, 8], [2, 2, 2, 2], [8, 8, 8, 0]):
        cells = _four_ways(image(np.array(window, float).reshape(2, 2)))
        _append(columns, [_numbers(cell, "g") for cell in cells])
    names = ("digit", "edges", "max", "average", "global max", "global average")
    moved = [["one pixel to the right", "changed by"]]
    for name, change in zip(names, moved_digit()["changes"], strict=True):
        moved.append([name, f"{100 * change:.0f} %"])
    return f"{_table(columns)}\n\n{_table(moved)}"


@jax.jit
def _four_ways(x: jax.Array) -> tuple[jax.Array, ...]:
    """Returns a 2x2 window, its poolings, and their gradients for an output gradient of 1."""
    sizes, one = {"window": (2, 2), "strides": (2, 2)}, jnp.ones((1, 1, 1, 1))
    return (
        x,
        pooling.max_pool(x, **sizes),
        pooling.max_pool_backward(one, x, **sizes),
        pooling.average_pool(x, **sizes),
        pooling.average_pool_backward(one, x, **sizes),
    )


def moved_digit() -> dict[str, list]:
    """Returns edges and poolings of a digit and of the digit shifted by one pixel, and their changes."""
    digit = sides.digits()[0][0, :, :, 0]
    rows = [_pooled(image(np.roll(digit, shift, axis=1))) for shift in (0, 1)]
    rows = [[np.asarray(values).squeeze() for values in row] for row in rows]
    changes = [
        np.linalg.norm(np.subtract(after, before)) / np.linalg.norm(before)
        for before, after in zip(*rows, strict=True)
    ]
    return {"still": rows[0], "moved": rows[1], "changes": changes}


@jax.jit
def _pooled(x: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the image, its vertical edges, and their max, average and global poolings."""
    kernel, sizes = VERTICAL_EDGES[:, :, None, None], {"window": (2, 2), "strides": (2, 2)}
    edges = convolution.convolution(x, kernel, jnp.zeros(1), padding=((1, 1), (1, 1)))
    edges = activation("relu").value(edges)
    pooled = (pooling.max_pool(edges, **sizes), pooling.average_pool(edges, **sizes))
    return (x, edges, *pooled, pooling.global_max_pool(edges), pooling.global_average_pool(edges))


def of_dropout() -> str:
    """Dropout with one mask, the mean over all 16 masks, and inference, for both conventions of scaling."""
    x, rate = jnp.arange(1.0, 5.0), 0.2
    masks = jnp.array([[number >> place & 1 for place in range(4)] for number in range(16)]) == 1
    chances = jnp.where(masks, 1 - rate, rate).prod(axis=1)
    ours = dropout.dropout(jnp.tile(x, (16, 1)), masks, rate)
    reports = jnp.where(masks, x, 0)
    inference = {
        "scaled in training (ours)": (ours, dropout.dropout(x, None, rate)),
        "scaled at inference (report D)": (reports, (1 - rate) * x),
    }
    columns = [[""], ["without the third"], ["mean over all masks"], ["inference"]]
    for name, (trained, inferred) in inference.items():
        cells = (trained[0b1011], chances @ trained, inferred)
        _append(columns, [name, *(_numbers(np.round(cell, 12), "g") for cell in cells)])
    return _table(columns)


def of_softmax() -> str:
    """Softmax, loss and gradient; also for logits higher by 1000, where e^z overflows."""
    targets = jnp.array([[1.0, 0.0, 0.0]])
    columns = [["logits"], ["e^z / sum of e^z"], ["p"], ["loss"], ["p - y"]]
    for logits in (jnp.array([[2.0, 1.0, 0.1]]), jnp.array([[1002.0, 1001.0, 1000.1]])):
        powers = jnp.exp(logits)
        cells = (
            powers / powers.sum(),
            softmax.softmax(logits),
            softmax.cross_entropy(logits, targets),
            softmax.cross_entropy_backward(logits, targets),
        )
        _append(columns, [_numbers(logits, "g"), *(_numbers(cell, ".4f") for cell in cells)])
    return _table(columns)


def of_activations() -> str:
    """Values and derivatives of the activations."""
    places = jnp.array([-2.0, -0.5, 0.0, 0.5, 2.0])
    columns = [["x", *(f"{place:g}" for place in places)]]
    for name in ACTIVATIONS:
        rule = activation(name)
        pairs = zip(rule.value(places), rule.derivative(places), strict=True)
        columns.append([name, *(f"{value:.4g}, {slope:.4g}" for value, slope in pairs)])
    return _table(columns)


def of_adam() -> str:
    """Adam's first steps for a gradient that changes its sign and then vanishes; learning rate 0.1."""
    names = ("t", "gradient", "mean", "square", "corrected", "corrected", "step", "uncorrected step")
    columns = [[name] for name in names]
    parameter, state = jnp.zeros(()), adam.init(jnp.zeros(()))
    for gradient in (2.0, 2.0, 2.0, -2.0, 0.0, 0.0):
        after, state = adam.adam(parameter, jnp.asarray(gradient), state, learning_rate=0.1)
        mean = adam.correct_bias(state.mean, adam.BETA1, state.step)
        square = adam.correct_bias(state.square, adam.BETA2, state.step)
        uncorrected = -0.1 * state.mean / (jnp.sqrt(state.square) + adam.EPSILON)
        cells = (state.mean, state.square, mean, square, after - parameter, uncorrected)
        _append(columns, [f"{state.step}", f"{gradient:g}", *(f"{cell:.4f}" for cell in cells)])
        parameter = after
    return _table(columns)


def of_valley() -> str:
    """Steps until a walk is below 0.01, from 82, in the valley and in the rotated valley."""
    columns = [["rule"], ["rate"], ["along the axes"], ["to stay"], ["turned by 45°"], ["to stay"]]
    for rule, rates in valley.RATES.items():
        for rate in rates:
            arrivals = [valley.arrival(rule, rate, turned=turned) for turned in (False, True)]
            message = [map(str, steps) if steps else ("diverges", "") for steps in arrivals]
            _append(columns, [rule, f"{rate:g}", *message[0], *message[1]])
    return _table(columns)


def of_training() -> str:
    """Losses by hand and with JAX, the largest difference of a parameter, and the test accuracy."""
    return of_training_steps(*sides.both(TRAINING_STEPS))


def of_training_steps(steps: Sequence[sides.Step], parameters: network.Parameters) -> str:
    """The same for given steps."""
    columns = [["step"], ["loss by hand"], ["loss by jax.grad"]]
    for step in (1, 2, 20, 50, 100, TRAINING_STEPS):
        taken = steps[step - 1]
        _append(columns, [f"{step}", f"{taken.loss_by_hand:.10f}", f"{taken.loss_by_jax:.10f}"])
    count = sum(leaf.size for leaf in jax.tree.leaves(parameters))
    held = "below" if max(step.difference for step in steps) < 1e-12 else "NOT below"
    images, labels = sides.digits()
    unseen = slice(sides.TRAINING_IMAGES, None)
    logits = jax.jit(network.forward)(parameters, jnp.asarray(images[unseen])).logits
    right = int((logits.argmax(axis=1) == labels[unseen]).sum())
    return (
        f"{_table(columns)}\n\nlargest difference of any of {count:,} parameters after any step: "
        f"{held} 1e-12\nunseen digits classified right: {right} of {len(labels[unseen])}"
    )


BLOCKS = {
    "convolution": of_convolution,
    "pooling": of_pooling,
    "dropout": of_dropout,
    "softmax": of_softmax,
    "activations": of_activations,
    "adam": of_adam,
    "valley": of_valley,
    "training": of_training,
}
"""Functions that compute each block, by its name in the page."""


def image(values: np.ndarray) -> jax.Array:
    """Returns a batch of one single-channel image, [1, H, W, 1]."""
    return jnp.asarray(values)[None, :, :, None]


def _numbers(values: jax.Array | np.ndarray, style: str) -> str:
    return " ".join(f"{value + 0.0:{style}}" for value in np.ravel(values))  # + 0.0: no -0


def _append(columns: Sequence[list[str]], cells: Sequence[str]) -> None:
    for column, cell in zip(columns, cells, strict=True):
        column.append(cell)


def _table(columns: Sequence[Sequence[str]]) -> str:
    """Formats columns of lines; the first line of each is its head."""
    padded = []
    for column in columns:
        width = max(map(len, column))
        padded.append([line.ljust(width) for line in column])
    rows = itertools.zip_longest(*padded)
    widths = [len(column[0]) for column in padded]
    return "\n".join(
        "   ".join((cell or "").ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
