"""How sure a measured accuracy is."""


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927), which counts every example as independent."""
    from scipy import stats  # a quarter of a second, which a start need not wait for

    interval = stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
