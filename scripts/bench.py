"""Runs benchmarks, mostly against PyTorch: python scripts/bench.py [--suite=cpu|gpu|...] [--rows=NAME]."""

from jaxnets.runtime import signals

signals.install()  # before the slow imports

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is not installed

from benchmarks import baselines, suite

SUITE = flags.DEFINE_enum("suite", "cpu", list(suite.SUITES), "The benchmark suite.")
ROWS = flags.DEFINE_list("rows", [], "Row names, such as train/lenet5/28/64; empty for all.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds per row.", lower_bound=5)
SECONDS = flags.DEFINE_float("seconds", 3.0, "Approximate seconds per measurement.", lower_bound=0.1)
BASELINES = flags.DEFINE_list(
    "baselines",
    list(baselines.KINDS),
    f"cpu: what networks are compared with, of {', '.join(baselines.KINDS)}.",
)
IMAGES = flags.DEFINE_string("images", None, "pipeline: JPEGs of 224 px, one folder per class.")
BUDGET = flags.DEFINE_float(
    "budget", None, "ops, growth, profile, gpu: minutes; run again to continue.", lower_bound=0.0
)
DRY_RUN = flags.DEFINE_bool("dry_run", False, "gpu: run everything at tiny sizes on any device.")
OUTPUT = flags.DEFINE_string("output", None, "Output file (results/bench/MACHINE-SUITE-DATE.json).")


def main(arguments: Sequence[str]) -> None:
    """Takes no positional arguments."""
    runner.check_no_arguments(arguments)
    options = suite.Options(
        rows=tuple(ROWS.value),
        rounds=ROUNDS.value,
        seconds=SECONDS.value,
        images=Path(IMAGES.value) if IMAGES.value else None,
        output=Path(OUTPUT.value) if OUTPUT.value else None,
        kernels=runner.kernels_library(),
        baselines=tuple(BASELINES.value),
        budget=BUDGET.value,
        dry_run=DRY_RUN.value,
    )
    suite.run(SUITE.value, options)


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)  # workers load them
