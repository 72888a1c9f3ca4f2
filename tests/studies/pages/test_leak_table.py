"""The confidence interval of the accuracy drop from a random to a grouped split."""

import numpy as np

from jaxnets.evaluation.statistics import wilson_interval
from studies.pages.leak_table import difference_interval


def test_difference_interval_matches_newcombe_example() -> None:
    """56 of 70 and 48 of 80, method 10 of table II: 0.0524 to 0.3339."""
    first, second = (56 / 70, wilson_interval(56, 70)), (48 / 80, wilson_interval(48, 80))
    found = difference_interval(*first, *second)
    np.testing.assert_allclose(found, (0.0524, 0.3339), atol=5e-5)
