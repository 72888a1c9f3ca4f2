"""Report A's formulas and our counts."""

from jaxnets.commands.summary import Layer
from studies.parameter_formulas import compare


def test_report_a_s_formulas_are_listed() -> None:
    layer = Layer("conv1", "Conv", (8, 8, 3), (4, 4, 64), 9408, 0, 1)
    lines = compare([layer], "resnet50")
    assert any(line.startswith("Residual Block 1") and "214,272" in line for line in lines)
    assert any("(gives 2,688)" in line for line in lines)
    assert compare([layer], "densenet121") == []
