"""The proof as a person reads it: lines of at most 100 columns."""

from collections.abc import Mapping, Sequence

import numpy as np

from studies.mlp_proof.agreement import FLOAT32_LIMIT, FLOAT64_LIMIT, Agreement
from studies.mlp_proof.case import PAGE_DECIMALS, Case
from studies.mlp_proof.disagreement import FLOAT32_ROUNDING, Disagreement
from studies.mlp_proof.errata import Errata
from studies.mlp_proof.implementations import (
    BY_HAND,
    GRAD32,
    GRAD64,
    PYTORCH,
    SCALAR,
    Implementation,
)
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


def side_by_side(case: Case, ways: Mapping[str, Implementation], *, every_value: bool) -> list[str]:
    """The loss, the predictions and the first value of each updated tensor, or every value, by way."""
    names = parameter_names(case)
    chosen = names if every_value else [name for name in names if name.endswith(("[0][0]", "'[0]"))]
    printed = dict(zip(names, case.engine_parameters, strict=True))
    table = [
        ["", "", *(HEADS[name][0] for name in ways)],
        ["", "the report", *(HEADS[name][1] for name in ways)],
        ["loss", ABSENT, *(_digits(way.loss, name) for name, way in ways.items())],
    ]
    for number, prediction in enumerate(case.engine_predictions):
        values = (_digits(way.predictions[number], name) for name, way in ways.items())
        table.append([f"ŷ of Xs{number + 1}", _digits(prediction), *values])
    for name in chosen:
        values = (_digits(way.updated[names.index(name)], of) for of, way in ways.items())
        table.append([name, _digits(printed[name]), *values])
    return aligned(table)


def parameter_names(case: Case) -> list[str]:
    """W1'[0][0], W1'[0][1], ..., in the order of case.flat."""
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
    """The largest difference of any way to each printed table, by layer, and among the ways."""
    by_kind: dict[str, list[str]] = {}
    units: dict[str, str] = {}
    for comparison in agreement.tables:
        kind = comparison.table.rstrip("'0123456789").rstrip("_")
        by_kind.setdefault(kind, []).append(f"{comparison.largest:.2e}")
        units[kind] = f"{comparison.limit:.0e}"
    layers = len(by_kind["z"])
    table = [["", *(f"layer {number}" for number in range(1, layers + 1)), "half a unit"]]
    table += [[message, *by_kind[kind], units[kind]] for kind, message in KINDS.items()]
    predictions, parameters = (comparison.largest for comparison in agreement.engine)
    return [
        *aligned(table),
        f"scalar engine's printout: 4 predictions {predictions:.1e}, 41 parameters {parameters:.1e} "
        f"(limit {FLOAT64_LIMIT:.0e})",
        f"float64 columns among themselves {agreement.among_float64:.1e} (limit {FLOAT64_LIMIT:.0e}), "
        f"float32 from float64 {agreement.of_float32:.1e} (limit {FLOAT32_LIMIT:.0e})",
    ]


def disagreement(found: Disagreement, case: Case) -> list[str]:
    """The readings of PyTorch's listing beside its page, what happened, and what ours does instead."""
    names, page = parameter_names(case), found.page
    shown = [names.index(name) for name in ("W1'[0][0]", "b1'[0]", "W3'[0][0]", "b3'[0]")]
    table = [
        ["", "sum of", "mean,", "mean, biases", "PyTorch's"],
        ["", "squares", "done right", "(n, 1)", "page"],
        ["loss", *(repr(column.loss) for column in found.columns), repr(found.page_loss)],
        *(
            [
                names[place],
                *(f"{column.updated[place]:.{PAGE_DECIMALS}f}" for column in found.columns),
                f"{page[place]:.{PAGE_DECIMALS}f}",
            ]
            for place in shown
        ),
        ["farthest off", *(f"{column.largest:.2e}" for column in found.columns), ""],
        ["as the page", *(f"{column.within} of {page.size}" for column in found.columns), ""],
    ]
    steps = round((found.page_loss - found.loss_float32) / FLOAT32_ROUNDING)
    pytorch = (
        f"PyTorch itself, with such biases: {found.pytorch['loss']!r} "
        f"(float32 {found.pytorch['loss_float32']!r})"
        if found.pytorch is not None
        else f"{NO_PYTORCH}: all of this is jax.numpy's"
    )
    return [
        *aligned(table),
        "The page's loss is the mean of the squared errors, not their sum, so all of its gradients are a",
        "quarter. Its biases are (n, 1) columns, which nn.Linear adds along the batch: b[i] goes to sample",
        "i instead of neuron i, and nothing complains because batch and layers are all 4.",
        f"In float32 the third loss is {found.loss_float32!r}, {abs(steps)} rounding "
        f"{'step' if abs(steps) == 1 else 'steps'} from the page's.",
        f"{pytorch}.",
        f"Ours refuses: {found.refusal}.",
    ]


def relu_variant(found: ReluVariant) -> list[str]:
    """What survives of report B's network, and what cannot be so."""
    draws, row = found.draws, found.impossible[0] if found.impossible else 0
    return [
        f"δ3 = error (1 - ŷ²) = {found.delta_3:.6f}, printed {found.delta_3_printed:.3f}",
        f"dW1 = δ1 xᵀ: its 12 values follow from δ1 = {_row(found.delta_1)}",
        f"W3 = db2 / db3 = {_row(found.w3)}, within ±{found.w3_range}",
        f"impossible: row {row + 1} of dW1 needs |δ1| = {abs(found.delta_1[row]):.3f}; weights of W2 in "
        f"±{found.w2_range} allow {found.bound:.3f} at most",
        f"{draws.count:,} networks drawn from its ranges: by hand, scalar engine, jax.grad differ by "
        f"{draws.among_ways:.1e} at most",
    ]


def errata(found: Errata) -> list[str]:
    """Each printed formula, the right one, and what the printed one gives."""
    table = [["printed", "right", "as printed it"]]
    table += [[slip.printed, slip.right, slip.in_words()] for slip in found.formulas]
    rounded = found.rounded
    return [
        *aligned(table, left=(0, 1, 2)),
        f"3-decimal weights: {rounded.off} of {rounded.values} tabled values do not follow from them, "
        f"{rounded.forward_off} of {rounded.forward_values} of z and a",
        f"(by up to {rounded.forward_largest:.1e}) and {rounded.backward_off} of "
        f"{rounded.backward_values} of δ, W' and b' (by up to {rounded.backward_largest:.1e}); "
        "all do from the full ones.",
    ]


def aligned(table: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Rows of cells as lines; columns are aligned right but for those of `left`."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _digits(value: float, way: str = "") -> str:
    return f"{value:.8f}" if way == GRAD32 else f"{value:.10f}"


def _row(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in np.array(values)) + ")"
