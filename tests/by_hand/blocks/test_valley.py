"""What the page claims of the rules on a valley holds, and not at its rates alone."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture
def valley() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield importlib.import_module("building_blocks_valley")


def test_adam_arrives_at_rates_a_hundredfold_apart_and_sgd_has_a_cliff(valley: ModuleType) -> None:
    for rate in np.geomspace(0.05, 5.0, 9):
        assert valley.arrival("Adam", float(rate), turned=False) is not None
    highest = 2 / valley.STEEPNESS
    assert valley.arrival("SGD", 0.99 * highest, turned=False) is not None
    assert valley.arrival("SGD", 1.01 * highest, turned=False) is None


def test_no_fixed_rate_of_sgd_is_as_fast_as_momentum_or_adam(valley: ModuleType) -> None:
    steps = [
        valley.arrival("SGD", float(rate), turned=False) for rate in np.linspace(1e-3, 2e-2, 40)
    ]
    fastest = min(number for number in steps if number)
    assert valley.arrival("momentum", 0.01, turned=False) < fastest / 2
    assert valley.arrival("Adam", 0.3, turned=False) < fastest / 2


def test_only_adam_s_walk_depends_on_how_the_valley_lies(valley: ModuleType) -> None:
    for rule, rate in valley.SHOWN.items():
        straight = valley.arrival(rule, rate, turned=False)
        turned = valley.arrival(rule, rate, turned=True)
        if rule == "Adam":
            assert turned > 2 * straight
        else:
            assert turned == straight
