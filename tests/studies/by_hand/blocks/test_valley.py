"""The claims of docs/building_blocks.md about optimizers on a valley, at other learning rates too."""

import numpy as np
import pytest

from studies.pages import building_blocks_valley as valley

pytestmark = pytest.mark.usefixtures("x64")


def test_adam_converges_over_a_hundredfold_range_of_rates_and_sgd_diverges() -> None:
    for rate in np.geomspace(0.05, 5.0, 9):
        assert valley.arrival("Adam", float(rate), turned=False).first < 400
    max_rate = 2 / valley.STEEPNESS
    assert valley.arrival("SGD", 0.99 * max_rate, turned=False) is not None
    assert valley.arrival("SGD", 1.01 * max_rate, turned=False) is None


def test_adam_oscillates_at_a_high_rate() -> None:
    for turned in (False, True):
        first, stays = valley.arrival("Adam", 3.0, turned=turned)
        assert first < 100
        assert stays > 1000


def test_no_fixed_rate_of_sgd_is_as_fast_as_momentum_or_adam_on_a_valley() -> None:
    steps = [valley.arrival("SGD", float(rate), turned=False) for rate in np.linspace(1e-3, 2e-2, 40)]
    fastest = min(arrival.stays for arrival in steps if arrival)
    momentum = valley.arrival("momentum", 0.01, turned=False).stays
    adams = [valley.arrival("Adam", rate, turned=False).stays for rate in (0.3, 1.0)]
    assert max(momentum, *adams) < fastest / 2
    assert momentum == pytest.approx(min(adams), rel=0.1)  # as the page claims


def test_only_adam_depends_on_the_orientation_of_the_valley() -> None:
    for rule, rate in valley.SHOWN.items():
        aligned = valley.arrival(rule, rate, turned=False)
        turned = valley.arrival(rule, rate, turned=True)
        if rule == "Adam":
            assert turned.stays > 1.5 * aligned.stays
        else:
            assert turned == aligned
