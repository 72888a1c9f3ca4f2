"""Types of a bench file, results/bench/MACHINE-SUITE-DATE.json."""

from typing import Required, TypedDict


class Conditions(TypedDict, total=False):
    """What a row was measured with."""

    code: str | None
    """The package's version, from `benchmarks.conditions.code_version`."""
    kernels_library: str | None
    """File name of the C++ kernels library, which contains its hash; None without the kernels."""
    busy_before: float | None
    """Fraction of the cores in use just before the measurement; None where /proc/stat is missing."""


class BenchRow(Conditions, total=False):
    """One row. Every speed is per second; `ours` is jaxnets, `theirs` the fastest baseline.

    A ratio is the median over rounds of our speed divided by another one of the same round.
    """

    name: Required[str]
    title: str
    machine: str
    """The processor, as in the file's header."""
    failed: str
    """The reason, if the row could not be measured; such a row has no speeds."""
    measured: str
    """The measurement that produced this row, if it produced several."""
    implementation: str | None
    """"C++ kernels" or "in JAX"."""
    dtype: str | None
    """Precision of the computation: "float32" or "bfloat16"; None if the row has none."""
    unit: str
    """What the speeds count: "images", "points", "starts", "calls" or "operations"."""
    rounds: int
    ours: float
    theirs: float | None
    baseline: str | None
    """Name of the fastest baseline."""
    ratio: float | None
    """To the fastest baseline."""
    range: list[float] | None
    """Smallest and largest of these ratios in a round."""
    baseline_eager: str | None
    """Name of the fastest eager PyTorch as installed."""
    ratio_eager: float | None
    ratio_eager_tuned: float | None
    """To the fastest eager PyTorch, as installed and with our allocator setting."""
    ratio_in_jax: float | None
    ratio_eager_in_jax: float | None
    ratio_eager_tuned_in_jax: float | None
    """The same three ratios of jaxnets without the C++ kernels."""
    ratio_float32: float | None
    """To jaxnets in float32, of a row in another precision."""
    ratio_memory: float | None
    """Our peak memory divided by that of `baseline_eager`, or of `baseline` if that is None."""
    kernels: bool
    """Whether jaxnets was measured with and without the C++ kernels."""
    images_per_second: dict[str, list[float]]
    """Speed in each round by implementation."""
    per_second: dict[str, list[float]]
    """The same in the ops suite."""
    chosen: str
    """The implementation that jaxnets uses without the C++ kernels (ops suite)."""
    peak_memory: dict[str, int | None] | None
    """Peak bytes by implementation."""
    seconds_a_step: float
    """Growth and profile suites."""
    point: dict[str, str | int]
    """The fields of `growth.Point`."""
    parts: dict[str, float]
    """Seconds per step by kind of operation (profile suite)."""
    operations: float
    """Floating point operations of a step (profile suite)."""
    of_a_product: float
    """Floating point operations per second of a large matrix product (profile suite)."""
    operations_per_image: float
    operations_per_second_of_a_product: float
    """The same two quantities in the gpu suite."""
    mfu: float
    """Model FLOP utilization: the fraction of a large matrix product's speed (gpu suite)."""


class DriftStep(TypedDict):
    """Relative differences from PyTorch after a training step."""

    step: int
    parameters: float
    loss: float
    largest: float
    """The largest difference of a single tensor."""


class Drift(TypedDict):
    """Two runs compared with PyTorch: from the same state before every step, and free running."""

    about: str
    restarted: list[DriftStep]
    free: list[DriftStep]


class Machine(TypedDict):
    """The header of a bench file. Rows of another machine or other versions need another file."""

    machine: str
    versions: dict[str, str]


class BenchFile(Machine):
    """A bench file."""

    rows: list[BenchRow]


class DriftFile(BenchFile, Drift):
    """results/bench/drift.json, whose `rows` are empty."""
