"""Writes docs/mlp_by_hand.md and its Spanish translation: python -m studies.pages.mlp_by_hand.

The text is in templates/, with {{placeholders}} for numbers; `scripts/verify_mlp.py --plot=docs` draws the
pictures.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.io import atomic_write
from studies import verify_mlp
from studies.mlp_proof.agreement import FLOAT32_LIMIT, FLOAT64_LIMIT
from studies.mlp_proof.case import Case
from studies.mlp_proof.disagreement import FLOAT32_ROUNDING
from studies.mlp_proof.implementations import BY_HAND, GRAD32, GRAD64, SCALAR
from studies.mlp_proof.layout import parameter_names
from studies.mlp_proof.picture import STEPS, first_losses

TEMPLATES = Path(__file__).parent / "templates"
DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("mlp_by_hand.md", "mlp_by_hand.es.md")
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


def pages(proof: verify_mlp.Proof) -> dict[str, str]:
    """Returns the text of each page by file name; raises KeyError for an unknown placeholder."""
    named = values(proof)
    return {
        page: PLACEHOLDER.sub(lambda found: named[found[1]], (TEMPLATES / page).read_text()) for page in PAGES
    }


def values(proof: verify_mlp.Proof) -> dict[str, str]:
    """Returns the value of every placeholder."""
    case = proof.case
    tables = proof.results[BY_HAND].tables
    return {
        **_network(case),
        **_first_sample(case, tables),
        **_one_weight(case, tables),
        **_implementations(proof),
        **_disagreement(proof),
        **_errata(proof),
        **_relu_variant(proof),
    }


def _network(case: Case) -> dict[str, str]:
    named = {}
    for number, layer in enumerate(case.parameters, 1):
        named |= {f"W{number}": _matrix(layer.weight), f"b{number}": _matrix(layer.bias[:, None])}
    return {
        **named,
        "X": _matrix(case.inputs, 1),
        "y": _matrix(case.labels, 0),
        "x": _matrix(case.inputs[:1].T, 1),
        "rate": f"{case.learning_rate:g}",
        "parameters": str(case.engine_parameters.size),
    }


def _first_sample(case: Case, tables: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Returns the vectors of the first sample, and the computation of the first neuron of each layer."""
    first = {name: np.asarray(values)[:, 0] for name, values in tables.items() if name[-1] in "123"}
    (w1, b1), (w2, _), (w3, b3) = case.parameters
    x, y = case.inputs[0], case.labels[0, 0]
    named = {name: _matrix(column[:, None]) for name, column in first.items()}
    a1, a2, d2 = first["a1"], first["a2"], first["delta_2"]
    d3, prediction = first["delta_3"][0], first["a3"][0]
    return {
        **named,
        "z1_first_sum": _sum_of_products(w1[0], x, b1[0], decimals=1),
        "z1_first": _number(first["z1"][0]),
        "z3_sum": _on_two_lines(_sum_of_products(w3[0], a2, b3[0])),
        "z3_only": _number(first["z3"][0]),
        "prediction": _number(prediction),
        "y_first": f"{y:g}",
        "error_first": _number((prediction - y) ** 2),
        "delta_3_product": f"2\\,({_number(prediction)} - {y:g})(1 - {_factor(prediction)}^2)",
        "delta_3_only": _number(d3),
        "delta_2_product": f"{_factor(w3[0, 0])}{_factor(d3)}(1 - {_factor(a2[0])}^2)",
        "delta_2_first": _number(d2[0]),
        "delta_1_product": f"\\bigl[{_on_two_lines(_sum_of_products(w2[:, 0], d2))}\\bigr]"
        f"(1 - {_factor(a1[0])}^2)",
        "delta_1_first": _number(first["delta_1"][0]),
        "dW1": _matrix(np.outer(first["delta_1"], x)),
        "dW1_first": f"{_factor(first['delta_1'][0])}{_factor(x[0], 1)} = "
        f"{_number(first['delta_1'][0] * x[0])}",
    }


def _one_weight(case: Case, tables: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Returns the first weight's gradient by sample, and its update."""
    prediction, delta = tables["a3"][0], tables["delta_1"][0]
    x, y = case.inputs[:, 0], case.labels[:, 0]
    gradient, weight = float(delta @ x), case.parameters[0].weight[0, 0]
    updated = next(table for table in case.tables if table.name == "W1'").values[0, 0]
    return {
        "row_y": _cells(y, 0),
        "row_prediction": _cells(prediction),
        "row_error": _cells((prediction - y) ** 2),
        "total_error": _number(np.sum((prediction - y) ** 2)),
        "row_delta": _cells(delta),
        "row_x": _cells(x, 1),
        "row_product": _cells(delta * x),
        "gradient": _number(gradient),
        "weight_step": f"{_number(weight, 8)} - {case.learning_rate:g}\\cdot{_factor(gradient, 8)} = "
        f"{_number(weight - case.learning_rate * gradient, 8)}",
        "weight_printed": f"{updated:.8f}",
    }


def _implementations(proof: verify_mlp.Proof) -> dict[str, str]:
    names = {BY_HAND: "by_hand", SCALAR: "scalar", GRAD64: "grad64", GRAD32: "grad32"}
    first = parameter_names(proof.case).index("W1'[0][0]")
    named = {}
    for name, short in names.items():
        result, digits = proof.results[name], 6 if name == GRAD32 else 12
        shown = (result.loss, result.predictions[0], result.updated[first])
        named[f"result_{short}"] = _cells(shown, digits)
    rows: dict[str, list[str]] = {}
    for comparison in proof.agreement.tables:
        kind = comparison.table.rstrip("'0123456789").rstrip("_")
        rows.setdefault(kind, []).append(_small(comparison.largest, 2))
    engine = (None, proof.case.engine_predictions[0], proof.case.engine_parameters[first])
    return {
        **named,
        **{f"off_{kind}": " | ".join(cells) for kind, cells in rows.items()},
        "half_unit_forward": _small(proof.case.tables[0].half_unit),
        "half_unit_backward": _small(proof.case.tables[-1].half_unit),
        "result_printed": " | ".join("" if v is None else f"{v:.12f}" for v in engine),
        "printed_values": str(sum(table.values.size for table in proof.case.tables)),
        "limit": _small(FLOAT64_LIMIT),
        "limit32": _small(FLOAT32_LIMIT),
    }


def _disagreement(proof: verify_mlp.Proof) -> dict[str, str]:
    found = proof.disagreement
    names = parameter_names(proof.case)
    shown = {name: names.index(name) for name in ("W1'[0][0]", "b1'[0]", "W3'[0][0]", "b3'[0]")}
    rows = {
        f"page_{name[:2]}": " | ".join(
            f"{value:.4f}"
            for value in [*(each.updated[index] for each in found.interpretations), found.printed[index]]
        )
        for name, index in shown.items()
    }
    return {
        **rows,
        "page_losses": " | ".join(f"{each.loss:.12f}" for each in found.interpretations),
        "page_loss": f"{found.printed_loss!r}",
        "wrong_loss": f"{found.interpretations[2].loss:.12f}",
        "page_matching": " | ".join(
            f"{each.matching} / {found.printed.size}" for each in found.interpretations
        ),
        "page_max_difference": " | ".join(_small(each.max_difference, 2) for each in found.interpretations),
        "page_decimals": str(proof.case.pytorch[0].decimals),
        "error": found.error,
        "rounding": _small(FLOAT32_ROUNDING, 1),
        **{
            f"mse_{name}_{step}": f"{losses[step]:.4f}"
            for name, losses in zip(("sum", "mean", "column"), first_losses(proof.case).values(), strict=True)
            for step in (0, 1, 2, STEPS)
        },
        "steps": str(STEPS),
    }


def _errata(proof: verify_mlp.Proof) -> dict[str, str]:
    keys = ("z1", "delta_2", "delta_1", "W1", "W2", "W3", "b", "w", "loss", "derivative", "layer")
    named = {}
    for key, erratum in zip(keys, proof.errata.formulas, strict=True):
        shapes = erratum.description.partition(": ")[2]
        named[f"erratum_{key}"] = shapes if erratum.difference is None else f"{erratum.difference:.2f}"
    rounded = proof.errata.rounded
    return {
        **named,
        "samples": str(len(proof.case.inputs)),
        "rounded_off": str(rounded.off),
        "rounded_forward_off": str(rounded.forward_off),
        "rounded_forward_values": str(rounded.forward_values),
        "rounded_forward_largest": f"{rounded.forward_largest:.4f}",
        "rounded_backward_off": str(rounded.backward_off),
        "rounded_backward_values": str(rounded.backward_values),
        "rounded_backward_largest": f"{rounded.backward_largest:.4f}",
    }


def _relu_variant(proof: verify_mlp.Proof) -> dict[str, str]:
    found = proof.relu_variant
    return {
        "relu_delta_3": f"{found.delta_3:.6f}",
        "relu_delta_3_printed": f"{found.delta_3_printed:.3f}",
        "relu_w1_count": str(proof.case.parameters[0].weight.size),
        "relu_delta_1": _tuple(found.delta_1),
        "relu_w3": _tuple(found.w3),
        "relu_w3_range": f"{found.w3_range:g}",
        "relu_w2_range": f"{found.w2_range:g}",
        "relu_needed": f"{abs(found.delta_1[found.impossible[0]]):.2f}",
        "relu_bound": f"{found.bound:.4f}",
    }


def _number(value: Any, decimals: int = 6) -> str:
    return f"{float(value):.{decimals}f}"


def _small(value: float, decimals: int = 0) -> str:
    return f"{value:.{decimals}e}".replace("e-0", "e-")


def _factor(value: Any, decimals: int = 6) -> str:
    return f"({_number(value, decimals)})"


def _cells(numbers: Sequence[Any] | np.ndarray, decimals: int = 6) -> str:
    return " | ".join(_number(value, decimals) for value in numbers)


def _tuple(numbers: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in numbers) + ")"


def _matrix(rows: Any, decimals: int = 6) -> str:
    lines = (" & ".join(_number(value, decimals) for value in row) for row in np.asarray(rows))
    return "\\begin{pmatrix} " + " \\\\ ".join(lines) + " \\end{pmatrix}"


def _sum_of_products(left: Any, right: Any, bias: Any = None, *, decimals: int = 6) -> str:
    products = [f"{_factor(one)}{_factor(other, decimals)}" for one, other in zip(left, right, strict=True)]
    return " + ".join([*products, *([] if bias is None else [_factor(bias)])])


def _on_two_lines(formula: str) -> str:
    """Breaks a sum, whose lines are aligned, before its third term."""
    first, second, rest = formula.split(" + ", 2)
    return f"{first} + {second} \\\\ & + {rest}"


def main() -> None:
    """Writes both pages."""
    for name, text in pages(verify_mlp.prove()).items():
        atomic_write(DOCS / name, text)


if __name__ == "__main__":
    main()
