"""Measures us, mostly against PyTorch: python scripts/bench.py [--suite=cpu|gpu|...] [--rows=NAME]."""

from jaxnets.runtime import signals

signals.install()  # before what takes long to import

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxnets.commands import runner
from jaxnets.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is not installed

from benchmarks import suite

SUITE = flags.DEFINE_enum("suite", "cpu", list(suite.SUITES), "What is measured.")
ROWS = flags.DEFINE_list("rows", [], "Rows by name, such as train/lenet5/28/64; all where empty.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of each side.", lower_bound=5)
SECONDS = flags.DEFINE_float("seconds", 3.0, "How long a turn lasts, about.", lower_bound=0.1)
IMAGES = flags.DEFINE_string("images", None, "pipeline: JPEGs of 224 px, a folder a class.")
BUDGET = flags.DEFINE_float(
    "budget", None, "ops, growth, profile, gpu: minutes; again to go on.", lower_bound=0.0
)
DRY_RUN = flags.DEFINE_bool("dry_run", False, "gpu: try everything, tiny, on any device.")
OUTPUT = flags.DEFINE_string("output", None, "File (results/bench/MACHINE-SUITE-DATE.json).")


def main(arguments: Sequence[str]) -> None:
    """Parses nothing itself: flags in, one call."""
    if arguments:
        raise ConfigError(f"what is {arguments[0]!r}? Options are given as --name=value")
    options = suite.Options(
        rows=tuple(ROWS.value),
        rounds=ROUNDS.value,
        seconds=SECONDS.value,
        images=Path(IMAGES.value) if IMAGES.value else None,
        output=Path(OUTPUT.value) if OUTPUT.value else None,
        kernels=runner.kernels_library(),
        budget=BUDGET.value,
        dry_run=DRY_RUN.value,
    )
    suite.run(SUITE.value, options)


if __name__ == "__main__":
    runner.execute(main, with_kernels=False)  # its workers have them
