"""The proof as text, in lines of at most 100 columns."""

from collections.abc import Mapping, Sequence

import numpy as np

from studies.mlp_proof.agreement import FLOAT32_LIMIT, FLOAT64_LIMIT, Agreement
from studies.mlp_proof.case import PYTORCH_DECIMALS, Case
from studies.mlp_proof.disagreement import FLOAT32_ROUNDING, Disagreement
from studies.mlp_proof.errata import Errata
from studies.mlp_proof.implementations import BY_HAND, GRAD32, GRAD64, PYTORCH, SCALAR, Implementation
from studies.mlp_proof.relu_variant import ReluVariant

HEADS = {
    BY_HAND: ("", "by hand"),
    SCALAR: ("scalar", "engine"),
    GRAD64: ("jax.grad", "float64"),
    GRAD32: ("jax.grad", "float32"),
    PYTORCH: ("PyTorch", "float64"),
}
KINDS = {
    "z": "z    W a + b",
    "a": "a    tanh z",
    "delta": "δ    ∂E/∂z",
    "W": "W'   W - 0.1 ∂E/∂W",
    "b": "b'   b - 0.1 ∂E/∂b",
}
ABSENT = "-"
NO_PYTORCH = "PyTorch is not installed"


def values(case: Case, implementations: Mapping[str, Implementation], *, every_value: bool) -> list[str]:
    """Returns a table of losses, predictions and updated parameters, one column per implementation.

    Unless `every_value`, only the first value of each tensor is shown.
    """
    names = parameter_names(case)
    chosen = names if every_value else [name for name in names if name.endswith(("[0][0]", "'[0]"))]
    printed = dict(zip(names, case.engine_parameters, strict=True))
    table = [
        ["", "", *(HEADS[name][0] for name in implementations)],
        ["", "the report", *(HEADS[name][1] for name in implementations)],
        ["loss", ABSENT, *(_digits(each.loss, each.name) for each in implementations.values())],
    ]
    for number, prediction in enumerate(case.engine_predictions):
        cells = (_digits(each.predictions[number], each.name) for each in implementations.values())
        table.append([f"ŷ of Xs{number + 1}", _digits(prediction), *cells])
    for name in chosen:
        index = names.index(name)
        cells = (_digits(each.updated[index], each.name) for each in implementations.values())
        table.append([name, _digits(printed[name]), *cells])
    return _align(table)


def parameter_names(case: Case) -> list[str]:
    """Returns W1'[0][0], W1'[0][1], ..., in the order of case.flat."""
    return [
        name
        for number, layer in enumerate(case.parameters, 1)
        for neuron in range(len(layer.bias))
        for name in [
            *(f"W{number}'[{neuron}][{entry}]" for entry in range(layer.weight.shape[1])),
            f"b{number}'[{neuron}]",
        ]
    ]


def differences(agreement: Agreement) -> list[str]:
    """Returns the largest differences from the printed tables, by layer, and between implementations."""
    by_kind: dict[str, list[str]] = {}
    units: dict[str, str] = {}
    for comparison in agreement.tables:
        kind = comparison.table.rstrip("'0123456789").rstrip("_")
        by_kind.setdefault(kind, []).append(f"{comparison.largest:.2e}")
        units[kind] = f"{comparison.limit:.0e}"
    layers = len(by_kind["z"])
    table = [["", *(f"layer {number}" for number in range(1, layers + 1)), "half a unit"]]
    table += [[title, *by_kind[kind], units[kind]] for kind, title in KINDS.items()]
    predictions, parameters = (comparison.largest for comparison in agreement.engine)
    return [
        *_align(table),
        f"scalar engine's printout: 4 predictions {predictions:.1e}, 41 parameters {parameters:.1e} "
        f"(limit {FLOAT64_LIMIT:.0e})",
        f"float64 from each other {agreement.among_float64:.1e} (limit {FLOAT64_LIMIT:.0e}), "
        f"float32 from float64 {agreement.of_float32:.1e} (limit {FLOAT32_LIMIT:.0e})",
    ]


def disagreement(found: Disagreement, case: Case) -> list[str]:
    """Returns the interpretations of PyTorch's listing next to its printed results, and the explanation."""
    names, printed = parameter_names(case), found.printed
    shown = [names.index(name) for name in ("W1'[0][0]", "b1'[0]", "W3'[0][0]", "b3'[0]")]
    table = [
        ["", "sum of", "mean of", "mean, biases", "PyTorch,"],
        ["", "squares", "squares", "(n, 1)", "printed"],
        ["loss", *(repr(each.loss) for each in found.interpretations), repr(found.printed_loss)],
        *(
            [
                names[index],
                *(f"{each.updated[index]:.{PYTORCH_DECIMALS}f}" for each in found.interpretations),
                f"{printed[index]:.{PYTORCH_DECIMALS}f}",
            ]
            for index in shown
        ),
        ["largest error", *(f"{each.max_difference:.2e}" for each in found.interpretations), ""],
        ["matching", *(f"{each.matching} of {printed.size}" for each in found.interpretations), ""],
    ]
    steps = round((found.printed_loss - found.loss_float32) / FLOAT32_ROUNDING)
    pytorch = (
        f"PyTorch with (n, 1) biases: {found.pytorch['loss']!r} (float32 {found.pytorch['loss_float32']!r})"
        if found.pytorch is not None
        else f"{NO_PYTORCH}: all values are from jax.numpy"
    )
    return [
        *_align(table),
        "PyTorch's loss is the mean of the squared errors, not their sum, so its gradients are a quarter.",
        "Its biases are (n, 1) columns, which nn.Linear adds along the batch: b[i] is added to sample i",
        "instead of neuron i. No error is raised, because the batch and both layers have size 4.",
        f"In float32 the third loss is {found.loss_float32!r}, {abs(steps)} rounding "
        f"{'step' if abs(steps) == 1 else 'steps'} from the printed loss.",
        f"{pytorch}.",
        f"Our error: {found.error}.",
    ]


def relu_variant(found: ReluVariant) -> list[str]:
    """Returns the values of report B's network that can be checked, and the impossible one."""
    draws, row = found.draws, found.impossible[0] if found.impossible else 0
    return [
        f"δ3 = error (1 - ŷ²) = {found.delta_3:.6f}, printed {found.delta_3_printed:.3f}",
        f"dW1 = δ1 xᵀ: its 12 values follow from δ1 = {_row(found.delta_1)}",
        f"W3 = db2 / db3 = {_row(found.w3)}, within ±{found.w3_range}",
        f"impossible: row {row + 1} of dW1 needs |δ1| = {abs(found.delta_1[row]):.3f}; W2 in "
        f"±{found.w2_range} gives at most {found.bound:.3f}",
        f"{draws.count:,} random networks in its ranges: by hand, scalar engine and jax.grad differ by "
        f"at most {draws.max_difference:.1e}",
    ]


def errata(found: Errata) -> list[str]:
    """Returns each printed formula, the correct one, and the result of the printed one."""
    table = [["printed", "correct", "result as printed"]]
    table += [[each.printed, each.correct, each.format_result()] for each in found.formulas]
    rounded = found.rounded
    return [
        *_align(table, left=(0, 1, 2)),
        f"3-decimal weights: {rounded.off} of {rounded.values} printed values do not follow from them, "
        f"{rounded.forward_off} of {rounded.forward_values} of z and a",
        f"(by up to {rounded.forward_largest:.1e}) and {rounded.backward_off} of "
        f"{rounded.backward_values} of δ, W' and b' (by up to {rounded.backward_largest:.1e}); "
        "all follow from the full ones.",
    ]


def _align(table: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Joins rows of cells to lines; columns in `left` are left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _digits(value: float, implementation: str = "") -> str:
    return f"{value:.8f}" if implementation == GRAD32 else f"{value:.10f}"


def _row(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in np.array(values)) + ")"
