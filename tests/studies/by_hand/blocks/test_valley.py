"""What the page claims of the rules on a valley holds, and not at its rates alone."""

from types import ModuleType

import numpy as np
import pytest

from studies.pages import building_blocks_valley

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture
def valley() -> ModuleType:
    return building_blocks_valley


def test_adam_arrives_at_rates_a_hundredfold_apart_and_sgd_has_a_cliff(valley: ModuleType) -> None:
    for rate in np.geomspace(0.05, 5.0, 9):
        assert valley.arrival("Adam", float(rate), turned=False).first < 400
    highest = 2 / valley.STEEPNESS
    assert valley.arrival("SGD", 0.99 * highest, turned=False) is not None
    assert valley.arrival("SGD", 1.01 * highest, turned=False) is None


def test_at_a_high_rate_adam_arrives_and_does_not_stay(valley: ModuleType) -> None:
    for turned in (False, True):
        first, stays = valley.arrival("Adam", 3.0, turned=turned)
        assert first < 100
        assert stays > 1000


def test_no_fixed_rate_of_sgd_is_as_fast_as_momentum_or_adam(valley: ModuleType) -> None:
    steps = [valley.arrival("SGD", float(rate), turned=False) for rate in np.linspace(1e-3, 2e-2, 40)]
    fastest = min(arrival.stays for arrival in steps if arrival)
    momentum = valley.arrival("momentum", 0.01, turned=False).stays
    adams = [valley.arrival("Adam", rate, turned=False).stays for rate in (0.3, 1.0)]
    assert max(momentum, *adams) < fastest / 2
    assert momentum == pytest.approx(min(adams), rel=0.1)  # the page: as soon as Adam


def test_only_adam_s_walk_depends_on_how_the_valley_lies(valley: ModuleType) -> None:
    for rule, rate in valley.SHOWN.items():
        straight = valley.arrival(rule, rate, turned=False)
        turned = valley.arrival(rule, rate, turned=True)
        if rule == "Adam":
            assert turned.stays > 1.5 * straight.stays
        else:
            assert turned == straight
