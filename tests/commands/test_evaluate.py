"""The table that `evaluate` prints."""

import numpy as np
import pytest

from jaxnets.commands import evaluate
from jaxnets.evaluation.metrics import ClassScores

MEASURED = {"interval": (0.5, 0.9), "interval_method": "wilson"}


@pytest.mark.parametrize("fits", [True, False])
def test_names_of_classes_write_nothing_on_the_terminal(fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fits:
        monkeypatch.setattr(evaluate, "MAX_TABLE_CLASSES", 1)
    names = ("\x1b[2Ja\nb", "c\x07")
    scores = ClassScores(loss=0.5, examples=4, accuracy=0.75, correct=3, confusion=np.array([[2, 0], [1, 1]]))
    table = evaluate._format(scores, names, MEASURED)
    assert not {"\x1b", "\x07"} & set(table)
    assert r"\x1b[2Ja\nb" in table
    assert len(table.splitlines()) == (5 if fits else 4)
